"""Plots of evaluations as PNG bytes, equal for equal input; no window, no global state.

DVC's own plots load their drawing library from the network; these work offline. The colours are those of Okabe and Ito,
which people with any colour vision can tell apart, and every colour comes with a shape or a name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reviewtune.core.plotting import (
    BLUE,
    DPI,
    GREEN,
    GREY,
    ORANGE,
    PERCENT,
    RED,
    SERIES,
    SKY,
    new_figure,
    open_axes,
    png_of,
)
from reviewtune.errors import DataError
from reviewtune.evaluation.metrics.classification import INVALID, Scores
from reviewtune.evaluation.metrics.significance import Interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

KIND_COLOURS = {"finetuned": BLUE, "checkpoint": SKY, "prompt": ORANGE, "linear": GREEN}


@dataclass(frozen=True)
class ArmPoint:
    """One arm in a plot of all; the cost is USD per 1,000 reviews, None if nothing is billed by token."""

    name: str
    kind: str
    accuracy: Interval
    cost_per_1k: float | None


def confusion_matrix(scores: Scores, title: str) -> bytes:
    """Rows are labels, columns answers; the colour is the share of the row, the number the count of reviews."""
    columns = [*scores.labels, INVALID] if scores.invalid else list(scores.labels)
    counts = np.array(scores.confusion)[:, : len(columns)]
    cell = float(np.clip(8 / len(columns), 0.24, 0.62))  # inches
    size = float(np.clip(cell * 20, 4, 9))  # points
    figure, axes = new_figure(cell * len(columns) + 3.2, cell * len(scores.labels) + 2.6)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.55 else "black"
            number = axes.text(column, row, str(count), ha="center", va="center", fontsize=size, color=colour)
            number.set_in_layout(False)  # it fits its cell, so the layout need not measure it
    if scores.invalid:
        axes.axvline(len(scores.labels) - 0.5, color=RED, linewidth=1)
    axes.set_xticks(range(len(columns)), columns, **_slant(columns, cell))
    axes.set_yticks(range(len(scores.labels)), scores.labels)
    axes.tick_params(labelsize=max(size, 6), length=0, labelright=len(columns) > 20)
    axes.set(xlabel="answer", ylabel="label", title=f"{title}: {scores.correct} of {scores.n} right")
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=25, format=PERCENT, use_gridspec=False)
    bar.set_label("share of the label's reviews")
    return png_of(figure)


def accuracy_bars(arms: Sequence[ArmPoint]) -> bytes:
    """Each arm's accuracy with its 95 % interval, in the given order."""
    figure, axes = new_figure(8, 1.3 + 0.5 * len(_not_empty(arms)))
    for row, arm in enumerate(arms):
        axes.barh(row, arm.accuracy.value, height=0.6, color=_colour(arm), alpha=0.85)
        error_bar(axes, arm.accuracy, row, horizontal=True)
        axes.text(1.02, row, f"{arm.accuracy.value:.1%}", va="center")
    axes.set_yticks(range(len(arms)), [arm.name for arm in arms])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PERCENT)
    axes.set(xlabel="accuracy on the test set, with 95 % interval", title="Accuracy by arm")
    open_axes(axes, grid="x")
    return png_of(figure)


CROWDED = 0.15  # of the highest cost: about the width of an arm's name
LINE_HEIGHT = 0.06  # of accuracy: about the height of an arm's name


def accuracy_against_cost(arms: Sequence[ArmPoint], prices: str | None = None) -> bytes:
    """Accuracy over cost: up is better, left is cheaper; an arm without a price is a horizontal line.

    Args:
        arms: the arms, in the order of the comparison.
        prices: whose prices the costs are at, for the axis; None: the provider's own.

    Raises:
        DataError: there is no arm.
    """
    figure, axes = new_figure(8, 5)
    priced = [(arm, arm.cost_per_1k) for arm in _not_empty(arms) if arm.cost_per_1k is not None]
    costs = [cost for _, cost in priced]
    if costs and min(costs) > 0 and max(costs) > 20 * min(costs):
        axes.set_xscale("log")
    for number, (arm, cost) in enumerate(priced):
        crowded = any(_is_right_of(cost, arm, place, other, max(costs)) for other, place in priced)
        _draw_priced(axes, arm, cost, marker=SERIES[number % len(SERIES)][1], name_on_left=crowded)
    for arm in arms:
        if arm.cost_per_1k is None:
            _draw_without_price(axes, arm)
    axes.margins(x=0.25, y=0.15)
    if axes.get_xscale() == "linear":
        axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(PERCENT)
    cost_label = f"USD for 1,000 reviews at {prices}" if prices else "USD for 1,000 reviews"
    axes.set(xlabel=cost_label, ylabel="accuracy, with 95 % interval", title="Accuracy against cost")
    open_axes(axes)
    return png_of(figure)


def _draw_priced(axes: "Axes", arm: ArmPoint, cost: float, *, marker: str, name_on_left: bool) -> None:
    error_bar(axes, arm.accuracy, cost, horizontal=False)
    axes.plot(cost, arm.accuracy.value, marker, color=_colour(arm), markersize=10, zorder=3)
    axes.annotate(
        arm.name, (cost, arm.accuracy.value), xytext=(-9 if name_on_left else 9, 5), textcoords="offset points",
        ha="right" if name_on_left else "left",
    )  # fmt: skip


def _draw_without_price(axes: "Axes", arm: ArmPoint) -> None:
    axes.axhline(arm.accuracy.value, color=_colour(arm), linestyle="--", linewidth=1.2)
    axes.annotate(
        f"{arm.name} (no price)", (0.99, arm.accuracy.value), xycoords=("axes fraction", "data"),
        xytext=(0, 4), textcoords="offset points", color=_colour(arm),
        ha="right",
    )  # fmt: skip


def _is_right_of(cost: float, arm: ArmPoint, place: float, other: ArmPoint, widest: float) -> bool:
    """Whether the other point is where this one's name would be: to the right, at about the same height."""
    close = abs(other.accuracy.value - arm.accuracy.value) < LINE_HEIGHT
    return cost < place < cost + CROWDED * widest and close


def calibration(reliability: Mapping[str, Sequence[tuple[float, float]]], coverage: "pd.DataFrame") -> bytes:
    """Left, accuracy against confidence; right, accuracy on the share of reviews with the highest confidence.

    Args:
        reliability: each arm's bins: mean confidence and accuracy, both in [0, 1].
        coverage: columns arm, threshold, coverage, accuracy.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), dpi=DPI)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    for number, (name, bins) in enumerate(reliability.items()):
        colour, marker = SERIES[number % len(SERIES)]
        confidences, accuracies = zip(*bins, strict=True)
        left.plot(confidences, accuracies, marker=marker, color=colour, label=name)
        curve = coverage[coverage["arm"] == name]
        right.plot(curve["coverage"], curve["accuracy"], color=colour, drawstyle="steps-post", label=name)
    left.set(xlabel="confidence", ylabel="accuracy", title="Reliability", xlim=(0, 1), ylim=(0, 1))
    right.set(xlabel="share of reviews answered, surest first", ylabel="accuracy of those", title="Abstaining")
    right.set_ylim(0, 1.02)
    for axes in (left, right):
        axes.xaxis.set_major_formatter(PERCENT)
        axes.yaxis.set_major_formatter(PERCENT)
        open_axes(axes, grid="both")
    if reliability:
        right.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    return png_of(figure)


def per_label_f1(tables: "Mapping[str, pd.DataFrame]") -> bytes:
    """One row per label, one marker per arm.

    Args:
        tables: each arm's per-label table with the columns label, support, f1.

    Raises:
        DataError: there is no arm.
    """
    first = next(iter(tables.values()), None)
    if first is None or first.empty:
        raise DataError("no arm to draw")
    rows = np.arange(len(first))
    figure, axes = new_figure(8, 1.6 + max(0.2, min(0.36, 20 / len(rows))) * len(rows))
    for number, (name, table) in enumerate(tables.items()):
        colour, marker = SERIES[number % len(SERIES)]
        axes.plot(
            table["f1"],
            rows,
            marker,
            color=colour,
            markersize=12 if marker == "*" else 8,
            label=name,
            alpha=0.85,
            clip_on=False,
        )
    label_supports = zip(first["label"], first["support"], strict=True)
    axes.set_yticks(rows, [f"{label} ({support})" for label, support in label_supports])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set(xlabel="F1", title="F1 by label (test reviews)")
    open_axes(axes, grid="both")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    return png_of(figure)


def _slant(names: Sequence[str], room: float) -> dict[str, Any]:
    """Rotation of the column names: none for a few, 45 degrees for more, 90 degrees in narrow columns."""
    if len(names) < 5:
        return {"rotation": 0}
    return {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if room > 0.3 else {"rotation": 90}


def error_bar(axes: "Axes", interval: Interval, at: float, *, horizontal: bool) -> None:
    lengths = [[interval.value - interval.low], [interval.high - interval.value]]
    if horizontal:
        axes.errorbar(interval.value, at, xerr=lengths, color="black", capsize=4, linewidth=1.2)
    else:
        axes.errorbar(at, interval.value, yerr=lengths, color=GREY, capsize=4, linewidth=1.2)


def _colour(arm: ArmPoint) -> str:
    return KIND_COLOURS.get(arm.kind, GREY)


def _not_empty(arms: Sequence[ArmPoint]) -> Sequence[ArmPoint]:
    if not arms:
        raise DataError("no arm to draw")
    return arms
