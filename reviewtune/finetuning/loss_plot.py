"""The loss curve of a fine-tuning job as a picture."""

from typing import TYPE_CHECKING, Any

import numpy as np

from reviewtune.core.plotting import BLUE, GREY, RED, SKY, new_figure, open_axes, png_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

DECADE = 10


def training_curve(table: "pd.DataFrame", chosen_step: int | None = None, title: str = "Loss by step") -> bytes:
    """Draw the losses as PNG; the axis is logarithmic if they span more than a factor of ten.

    Args:
        table: columns step, train_loss and, where measured, valid_loss (one batch) and full_valid_loss (the whole set).
        chosen_step: the step to mark with a ring, whose checkpoint is the model.
        title: above the plot.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_figure(8, 4.5)
    if table.empty:  # a paid job must not fail because there is nothing to draw
        axes.set_axis_off()
        axes.text(0.5, 0.5, "the provider gave no loss curve", ha="center")
        return png_of(figure)
    steps, train = table["step"], table["train_loss"]
    window = max(1, len(table) // 20)
    axes.plot(steps, train, color=GREY, alpha=0.3, linewidth=0.8)
    smooth = train.rolling(window, min_periods=1, center=True).mean()
    axes.plot(steps, smooth, color=GREY, linewidth=2, label=f"training, mean of {window}" if window > 1 else "training")
    shown = [smooth]
    if "valid_loss" in table and table["valid_loss"].notna().any():
        axes.plot(steps, table["valid_loss"], "o", color=SKY, markersize=3.5, alpha=0.7, label="validation, one batch")
    if "full_valid_loss" in table and table["full_valid_loss"].notna().any():
        whole = table[["step", "full_valid_loss"]].dropna()
        axes.plot(whole["step"], whole["full_valid_loss"], "s-", color=BLUE, linewidth=2, label="validation, all")
        shown.append(whole["full_valid_loss"])
    if chosen_step is not None:
        _mark_chosen(axes, chosen_step, float(shown[-1][steps[shown[-1].index] == chosen_step].sum()))
    axes.set(xlabel="step", ylabel="loss", title=title)
    _loss_axis(axes, np.concatenate([series.to_numpy(dtype=float) for series in shown]))
    open_axes(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return png_of(figure)


def _mark_chosen(axes: "Axes", step: int, loss: float) -> None:
    """Draw a vertical line at the chosen checkpoint, and a ring if its loss is known."""
    axes.axvline(step, color=RED, linestyle="--", linewidth=1)
    ring: dict[str, Any] = {"marker": "o", "markersize": 13, "markerfacecolor": "none", "markeredgewidth": 2}
    x, y = ([step], [loss]) if loss else ([], [])
    axes.plot(x, y, "--", color=RED, linewidth=1, label=f"chosen: step {step}", **ring)


def _loss_axis(axes: "Axes", losses: "np.ndarray") -> None:
    """Scale the axis: from zero, or logarithmic with plain numbers if a linear one would hide the small losses."""
    from matplotlib.ticker import LogLocator, NullFormatter

    positive = losses[np.isfinite(losses) & (losses > 0)]
    if len(positive) and positive.max() > DECADE * positive.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel("loss (logarithmic)")
    else:
        axes.set_ylim(bottom=0)
