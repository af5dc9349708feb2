"""Pictures of a sweep: learning curve, epochs against both losses, accuracy against cost."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from reviewtune.core.plotting import BLUE, GREY, PERCENT, SERIES, new_figure, open_axes, png_of
from reviewtune.sweeps.ranking import Row, are_free

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE, EPOCHS = "train_size", "n_epochs"
NAMED = 20  # variants in the legend of the picture against cost


def pictures(rows: Sequence[Row]) -> dict[str, bytes]:
    """PNG files by name; learning curve and epochs only if the sweep varies them, cost only if there are prices."""
    files: dict[str, bytes] = {}
    if _values(rows, SIZE) > 1:
        files["learning_curve.png"] = learning_curve(rows)
    if _values(rows, EPOCHS) > 1:
        files["epochs.png"] = epochs_against_losses(rows)
    if any(cost is not None for _, cost in _costs(rows)):
        files["accuracy_against_cost.png"] = accuracy_against_cost(rows)
    return files


def learning_curve(rows: Sequence[Row]) -> bytes:
    """Accuracy with its interval against the number of training reviews; one line per combination of other settings."""
    figure, axes = new_figure(9, 4.5)
    lines = _lines(rows, SIZE, lambda row: row.mean("training_reviews"))
    for number, (name, line) in enumerate(lines.items()):
        colour, marker = SERIES[::-1][number % len(SERIES)]
        shift = 1.015 ** (number - (len(lines) - 1) / 2)  # so that the error bars of the lines do not overlap
        values = [row.accuracy for _, row in line]
        lengths = [[value.value - value.low for value in values], [value.high - value.value for value in values]]
        places, heights = [x * shift for x, _ in line], [value.value for value in values]
        axes.errorbar(
            places, heights, yerr=lengths, fmt=f"{marker}-", color=colour, capsize=3, elinewidth=1, label=name
        )
    axes.set_xscale("log")
    sizes = sorted({row.mean("training_reviews") for row in rows})
    axes.set_xticks(sizes, [f"{size:.0f}" for size in sizes])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set(xlabel="training reviews", ylabel="accuracy, with 95 % interval", title="Learning curve")
    open_axes(axes)
    _legend_outside(axes)
    return png_of(figure)


def accuracy_against_cost(rows: Sequence[Row]) -> bytes:
    """Up is better, left is cheaper; the numbers are the ranks, which the legend names."""
    figure, axes = new_figure(9, 5)
    priced = [(row, cost) for row, cost in _costs(rows) if cost is not None]
    for row, cost in priced[::-1]:
        colour = BLUE if row.rank == 1 else GREY
        bounds = [[row.accuracy.value - row.accuracy.low], [row.accuracy.high - row.accuracy.value]]
        name = f"{row.rank}  {_rest(row, ())}"
        alpha = 1.0 if row.rank == 1 else 0.55
        axes.errorbar(cost, row.accuracy.value, yerr=bounds, fmt="o", color=colour, alpha=alpha, capsize=3, label=name)
        place = (7 if row.rank % 2 else -7, 0)  # neighbours in rank are often close: one label left, one right
        axes.annotate(
            str(row.rank), (cost, row.accuracy.value), xytext=place, textcoords="offset points",
            va="center", ha="left" if row.rank % 2 else "right", color=colour,
        )  # fmt: skip
    axes.margins(x=0.15, y=0.1)
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(PERCENT)
    prices = " at gpt-4o-mini's prices" if are_free(rows) else ""
    axes.set(
        xlabel=f"USD for 1,000 reviews{prices}", ylabel="accuracy, with 95 % interval", title="Accuracy against cost"
    )
    open_axes(axes)
    handles, names = axes.get_legend_handles_labels()
    first = list(zip(handles, names, strict=True))[::-1][:NAMED]
    axes.legend(*zip(*first, strict=True), frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    return png_of(figure)


def epochs_against_losses(rows: Sequence[Row]) -> bytes:
    """Final training and validation loss per variant; where the solid line rises, more epochs only memorise."""
    figure, axes = new_figure(9, 4.5)
    for number, (name, line) in enumerate(_lines(rows, EPOCHS, lambda row: float(row.variant[EPOCHS])).items()):
        colour, marker = SERIES[::-1][number % len(SERIES)]
        epochs = [x for x, _ in line]
        for loss, style, alpha in (("valid_loss", "-", 1.0), ("train_loss", "--", 0.6)):
            values = [row.mean(loss) for _, row in line]
            if not all(map(math.isnan, values)):
                label = f"{name}: {'validation' if loss == 'valid_loss' else 'training'}"
                axes.plot(epochs, values, f"{marker}{style}", color=colour, alpha=alpha, label=label)
    axes.set_xticks(sorted({float(row.variant[EPOCHS]) for row in rows if _is_number(row.variant.get(EPOCHS))}))
    axes.set(xlabel="epochs", ylabel="loss at the end", title="Epochs against both losses")
    axes.set_ylim(bottom=0)
    open_axes(axes)
    _legend_outside(axes)
    return png_of(figure)


def _costs(rows: Sequence[Row]) -> list[tuple[Row, float | None]]:
    """USD per 1,000 reviews of each row, at one kind of prices."""
    free = are_free(rows)
    return [(row, row.cost_per_1k_at_gpt_4o_mini if free else row.cost_per_1k) for row in rows]


def _legend_outside(axes: "Axes") -> None:
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))


def _lines(rows: Sequence[Row], axis: str, at: Callable[[Row], float]) -> Mapping[str, list[tuple[float, Row]]]:
    """Rows that differ only in `axis`, in its order; without `auto`, which is not a number."""
    lines: dict[str, list[tuple[float, Row]]] = {}
    for row in rows:
        if axis != EPOCHS or _is_number(row.variant.get(EPOCHS)):
            lines.setdefault(_rest(row, (axis,)), []).append((at(row), row))
    return {name: sorted(line, key=lambda point: point[0]) for name, line in sorted(lines.items())}


def _rest(row: Row, without: Sequence[str]) -> str:
    return " ".join(f"{name}={value}" for name, value in row.variant.items() if name not in without) or "fine-tuned"


def _values(rows: Sequence[Row], axis: str) -> int:
    return len(
        {row.variant[axis] for row in rows if axis in row.variant and (axis != EPOCHS or _is_number(row.variant[axis]))}
    )


def _is_number(value: str | None) -> bool:
    return value is not None and value.isdigit()
