"""Pictures of the data report as inline SVG, whose words stay words: a reader can search and copy them."""

import re
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

from reviewtune.core.plotting import BLUE, GREY, ORANGE, PERCENT, RED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (BLUE, ORANGE)


def lengths(sizes: Sequence[int]) -> str:
    """How long the reviews are; a logarithmic axis where they differ by more than a factor of 50."""
    import numpy as np

    figure, axes = _figure(7.6, 2.4)
    if max(sizes) > 50 * max(min(sizes), 1):
        axes.set_xscale("log")
        bins = np.geomspace(max(min(sizes), 1), max(sizes) + 1, 31).tolist()
    else:
        bins = np.linspace(min(sizes), max(sizes) + 1, 31).tolist()
    axes.hist(sizes, bins=bins, color=BLUE, rwidth=0.9)
    axes.set(xlabel="characters", ylabel="reviews")
    return _svg(figure)


def learning_curves(curves: Sequence[dict[str, Any]]) -> str:
    """Measured accuracies, and beyond them the forecast with its interval."""
    figure, axes = _figure(7.6, 3.2 + 0.4 * len(curves))
    for curve, colour in zip(curves, COLOURS, strict=False):
        _points(axes, curve["measured"], colour, f"{curve['model']}: measured", "o-")
        if curve["forecast"]:
            ahead = [curve["measured"][-1], *curve["forecast"]]
            n = [point["n"] for point in ahead]
            axes.fill_between(n, [p["low"] for p in ahead], [p["high"] for p in ahead], color=colour, alpha=0.15, lw=0)
            value = [p["value"] for p in ahead]
            axes.plot(n, value, "o--", color=colour, markevery=slice(1, None), mfc="none", label="forecast")
    axes.axhline(curves[-1]["commonest"], color=GREY, linestyle=":", label="always the commonest label")
    axes.set(xlabel="training reviews", ylabel="accuracy")
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set_xlim(left=0)
    figure.legend(frameon=False, loc="outside lower left")  # inside it would cover a curve or its band
    return _svg(figure)


def loss(steps: Sequence[int], losses: Sequence[float], best_step: int) -> str:
    """The validation loss of a job, with its lowest point."""
    figure, axes = _figure(7.6, 2.6)
    axes.plot(steps, losses, "-o", color=BLUE, markersize=3)
    axes.axvline(best_step, color=RED, linestyle="--", linewidth=1, label=f"lowest: step {best_step}")
    axes.set(xlabel="step", ylabel="validation loss")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return _svg(figure)


def _points(axes: "Axes", points: Sequence[dict[str, float]], colour: str, label: str, style: str) -> None:
    value = [p["value"] for p in points]
    reach = [[p["value"] - p["low"] for p in points], [p["high"] - p["value"] for p in points]]
    axes.errorbar([p["n"] for p in points], value, yerr=reach, fmt=style, color=colour, capsize=3, label=label)


def _figure(width: float, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GREY, alpha=0.25, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: "Figure") -> str:
    """Equal bytes for equal input: no date, fixed ids. Black becomes the page's own text colour."""
    import matplotlib as mpl

    buffer = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "reviewtune"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'font: ([\d.]+)px [^;"]*', r"font: \1px system-ui, sans-serif", drawn)
    drawn = drawn.replace("#000000", "currentColor").replace("<text ", '<text fill="currentColor" ')
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'width="100%"', drawn, count=1)
