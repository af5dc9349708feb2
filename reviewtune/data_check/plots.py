"""Plots of the data report as inline SVG; text stays text, so that readers can search and copy it."""

import re
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING

from reviewtune.core.plotting import BLUE, GREY, ORANGE, PERCENT, RED
from reviewtune.data_check.learning_curve import Curve, CurvePoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (BLUE, ORANGE)


def lengths(sizes: Sequence[int]) -> str:
    """Histogram of the lengths in characters; on a logarithmic axis if they differ by more than a factor of 50."""
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


def learning_curves(curves: Sequence[Curve]) -> str:
    """Measured accuracies and the forecast, with intervals."""
    figure, axes = _figure(7.6, 3.2 + 0.4 * len(curves))
    for curve, colour in zip(curves, COLOURS, strict=False):
        _measured(axes, curve.measured, colour, f"{curve.model}: measured")
        if curve.forecast:
            _forecast(axes, [curve.measured[-1], *curve.forecast], colour)
    axes.axhline(curves[-1].baseline, color=GREY, linestyle=":", label="always the most frequent label")
    axes.set(xlabel="training reviews", ylabel="accuracy")
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set_xlim(left=0)
    figure.legend(frameon=False, loc="outside lower left")  # inside the axes it would cover a curve
    return _svg(figure)


def loss(steps: Sequence[int], losses: Sequence[float], best_step: int) -> str:
    """The validation loss of a job, with its minimum."""
    figure, axes = _figure(7.6, 2.6)
    axes.plot(steps, losses, "-o", color=BLUE, markersize=3)
    axes.axvline(best_step, color=RED, linestyle="--", linewidth=1, label=f"lowest: step {best_step}")
    axes.set(xlabel="step", ylabel="validation loss")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return _svg(figure)


def _measured(axes: "Axes", points: Sequence[CurvePoint], colour: str, label: str) -> None:
    scores = [point.accuracy for point in points]
    reach = [[score.value - score.low for score in scores], [score.high - score.value for score in scores]]
    values, sizes = [score.value for score in scores], [point.n for point in points]
    axes.errorbar(sizes, values, yerr=reach, fmt="o-", color=colour, capsize=3, label=label)


def _forecast(axes: "Axes", points: Sequence[CurvePoint], colour: str) -> None:
    """A dashed line with its band; the first point is measured and has no marker."""
    scores, sizes = [point.accuracy for point in points], [point.n for point in points]
    low, high = [score.low for score in scores], [score.high for score in scores]
    axes.fill_between(sizes, low, high, color=colour, alpha=0.15, lw=0)
    values = [score.value for score in scores]
    axes.plot(sizes, values, "o--", color=colour, markevery=slice(1, None), mfc="none", label="forecast")


def _figure(width: float, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GREY, alpha=0.25, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: "Figure") -> str:
    """The same bytes for the same figure: no date, fixed ids. Black becomes the page's text colour."""
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
