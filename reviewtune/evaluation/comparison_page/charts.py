"""The charts of the page as inline SVG: accuracy against cost, reliability, accuracy against coverage.

Their colours are the page's, so that they follow its light or dark theme. An arm has the same number and colour in all
of them; lines also differ by their dashes, so that nobody needs to tell colours apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from reviewtune.evaluation.comparison_page.axes import Axis, cost_axis, share_axis
from reviewtune.evaluation.metrics.significance import Interval

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 14, 48  # of the drawing, around the data
COLOURS = 8  # of arms, in the page's style; a ninth arm has the first colour again
DASHES = ("", "7 3", "2 3", "10 3 2 3", "4 2", "12 4", "1 2", "6 2 1 2")
BADGE = 9.0  # radius
AROUND = ((14, -13), (-14, -13), (14, 13), (-14, 13), (26, 0), (-26, 0), (0, -24), (0, 24), (30, -26), (-30, -26))


class XY(NamedTuple):
    """A position in the drawing, in pixels; or a pair of shares in [0, 1]."""

    x: float
    y: float


@dataclass(frozen=True)
class Priced:
    """One arm against its cost; `cost` is USD per 1,000 reviews, None: nothing is billed, or the price is not known."""

    number: int
    name: str
    accuracy: Interval
    cost: float | None


def cost_chart(points: Sequence[Priced], prices: str) -> str:
    """Accuracy over cost: up is better, left is cheaper; an arm without a price is a dashed line.

    Args:
        points: the arms.
        prices: whose prices the costs are at, for the axis.
    """
    across = cost_axis([point.cost for point in points if point.cost is not None], LEFT, WIDTH - RIGHT)
    lows, highs = [point.accuracy.low for point in points], [point.accuracy.high for point in points]
    up = share_axis(min(lows), max(highs), HEIGHT - BOTTOM, TOP)
    priced = [
        (point, XY(across.at(point.cost), up.at(point.accuracy.value))) for point in points if point.cost is not None
    ]
    badges = _beside([place for _, place in priced])
    drawn = [_unpriced(point, up) for point in points if point.cost is None]
    drawn += [_whiskers(point, place.x, up) for point, place in priced]
    drawn += [_dot(point, place, badge) for (point, place), badge in zip(priced, badges, strict=True)]
    frame = _frame(across, up, [f"${tick:g}" for tick in across.ticks()], prices, "accuracy")
    return _svg("Accuracy against cost", [frame, *drawn])


def reliability_chart(bins: Mapping[int, Sequence[XY]], names: Mapping[int, str]) -> str:
    """Accuracy of the reviews in each tenth of confidence; on the diagonal the confidence is right.

    Args:
        bins: by number of the arm: mean confidence and accuracy of each bin, from low to high.
        names: the arms' names by number.
    """
    across, up = Axis(0, 1, LEFT, WIDTH - RIGHT), Axis(0, 1, HEIGHT - BOTTOM, TOP)
    diagonal = f'<path class="ideal" d="M{across.start} {up.start}L{across.end} {up.end}"/>'
    lines = [_line(number, names[number], points, across, up, marked=True) for number, points in bins.items()]
    frame = _frame(across, up, _percents(across), "confidence", "accuracy")
    return _svg("Accuracy against confidence", [frame, diagonal, *lines])


def coverage_chart(curves: Mapping[int, Sequence[XY]], names: Mapping[int, str]) -> str:
    """Accuracy on the share of reviews with the highest confidence.

    Args:
        curves: by number of the arm: coverage and accuracy, from low to high coverage.
        names: the arms' names by number.
    """
    lowest = min((point.y for curve in curves.values() for point in curve), default=0.0)
    across, up = Axis(0, 1, LEFT, WIDTH - RIGHT), share_axis(lowest, 1.0, HEIGHT - BOTTOM, TOP)
    lines = [_line(number, names[number], points, across, up, marked=False) for number, points in curves.items()]
    frame = _frame(across, up, _percents(across), "share of reviews answered, surest first", "accuracy of those")
    return _svg("Accuracy against coverage", [frame, *lines])


def colour_class(number: int) -> str:
    """The style of an arm's colour, by its number from 1 on."""
    return f"a{(number - 1) % COLOURS + 1}"


def dashes(number: int) -> str:
    """How the line of an arm is dashed, as SVG writes it."""
    return DASHES[(number - 1) % len(DASHES)]


def _svg(title: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}; the figures are in the table">'
    return "".join([head, *parts, "</svg>"])


def _frame(across: Axis, up: Axis, names: Sequence[str], x_title: str, y_title: str) -> str:
    """Grid, ticks and titles of the axes."""
    bottom, middle = up.start, (up.start + up.end) / 2
    grid = [f"M{_n(across.start)} {_n(up.at(tick))}H{_n(across.end)}" for tick in up.ticks()]
    grid += [f"M{_n(across.at(tick))} {_n(bottom)}V{_n(up.end)}" for tick in across.ticks()]
    texts = [
        _text(across.start - 7, up.at(tick) + 4, name, "end")
        for tick, name in zip(up.ticks(), _percents(up), strict=True)
    ]
    texts += [
        _text(across.at(tick), bottom + 17, name, "middle") for tick, name in zip(across.ticks(), names, strict=True)
    ]
    texts.append(_text((across.start + across.end) / 2, HEIGHT - 8, x_title, "middle"))
    turned = f'<text transform="translate(12 {_n(middle)}) rotate(-90)" text-anchor="middle">{escape(y_title)}</text>'
    return f'<path class="grid" d="{"".join(grid)}"/><g class="axis">{"".join(texts)}{turned}</g>'


def _percents(axis: Axis) -> list[str]:
    return [f"{100 * tick:.0f} %" for tick in axis.ticks()]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}">{escape(text)}</text>'


def _unpriced(point: Priced, up: Axis) -> str:
    y, right = up.at(point.accuracy.value), WIDTH - RIGHT
    line = f'<path class="line" stroke-dasharray="6 4" d="M{LEFT} {_n(y)}H{right - 2 * BADGE}"/>'
    return _group(point.number, f"{point.name}: no price", line + _badge(point.number, XY(right - BADGE, y)))


def _whiskers(point: Priced, x: float, up: Axis) -> str:
    low, high = up.at(point.accuracy.low), up.at(point.accuracy.high)
    caps = "".join(f"M{_n(x - 4)} {_n(y)}H{_n(x + 4)}" for y in (low, high))
    return f'<g class="{colour_class(point.number)}"><path class="line" d="M{_n(x)} {_n(low)}V{_n(high)}{caps}"/></g>'


def _dot(point: Priced, place: XY, badge: XY) -> str:
    leader = f'<path class="leader" d="M{_n(place.x)} {_n(place.y)}L{_n(badge.x)} {_n(badge.y)}"/>'
    dot = f'<circle class="mark" cx="{_n(place.x)}" cy="{_n(place.y)}" r="4.5"/>'
    title = f"{point.name}: {100 * point.accuracy.value:.1f} %, ${point.cost:g}"
    return _group(point.number, title, leader + dot + _badge(point.number, badge))


def _line(number: int, name: str, points: Sequence[XY], across: Axis, up: Axis, *, marked: bool) -> str:
    places = [XY(across.at(point.x), up.at(point.y)) for point in points]
    path = "L".join(f"{_n(place.x)} {_n(place.y)}" for place in places)
    dots = "".join(f'<circle class="mark" cx="{_n(x)}" cy="{_n(y)}" r="3.2"/>' for x, y in places) if marked else ""
    line = f'<path class="line" stroke-dasharray="{dashes(number)}" d="M{path}"/>'
    return _group(number, name, line + dots)


def _badge(number: int, place: XY) -> str:
    return (
        f'<circle class="mark" cx="{_n(place.x)}" cy="{_n(place.y)}" r="{_n(BADGE)}"/>'
        f'<text class="no" x="{_n(place.x)}" y="{_n(place.y + 4)}" text-anchor="middle">{number}</text>'
    )


def _group(number: int, title: str, content: str) -> str:
    return f'<g class="{colour_class(number)}"><title>{escape(title)}</title>{content}</g>'


def _beside(dots: Sequence[XY]) -> list[XY]:
    """Places of the badges next to their dots, inside the drawing and clear of other badges and dots where possible."""
    badges: list[XY] = []
    for dot in dots:
        places = [XY(dot.x + dx, dot.y + dy) for dx, dy in AROUND]
        others = [other for other in dots if other != dot]
        badges.append(next((place for place in places if _is_free(place, badges, others)), places[0]))
    return badges


def _is_free(place: XY, badges: Sequence[XY], dots: Sequence[XY]) -> bool:
    inside = LEFT + BADGE < place.x < WIDTH - RIGHT - BADGE and TOP + BADGE < place.y < HEIGHT - BOTTOM - BADGE
    clear = all(_distance(place, badge) > 2 * BADGE + 1 for badge in badges)
    return inside and clear and all(_distance(place, dot) > BADGE + 5 for dot in dots)


def _distance(one: XY, other: XY) -> float:
    return float(((one.x - other.x) ** 2 + (one.y - other.y) ** 2) ** 0.5)


def _n(number: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{number:.1f}".removesuffix(".0")
