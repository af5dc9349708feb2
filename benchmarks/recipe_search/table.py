"""The table of recipes: mean held-out accuracies, and which recipe they choose.

Recipes are compared on the same runs: the pairs of data set and seed that every recipe of the table has finished. The
standard error is that of the mean difference to the best recipe over these pairs, so what makes a data set easy or hard
cancels. Among the recipes within one standard error of the best, the one with the shortest training is chosen (the one-
standard-error rule; Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, section 7.10).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

Run = tuple[str, int]  # data set, seed
BEST, CLOSE, CHOSEN = "best", "within 1 SE", "chosen"


@dataclass(frozen=True)
class Row:
    """One recipe."""

    name: str
    accuracy: float  # mean over the runs
    difference: float  # to the best recipe's mean, at most 0
    error: float | None  # standard error of the difference; None for the best recipe, and with fewer than two runs
    by_data: dict[str, float]  # mean over the seeds
    seconds: float  # mean training time
    marks: tuple[str, ...] = ()


def common_runs(scores: Mapping[str, Mapping[Run, dict[str, Any]]]) -> list[Run]:
    """The runs that all recipes have finished."""
    finished = [set(runs) for runs in scores.values() if runs]
    return sorted(set.intersection(*finished)) if finished else []


def rows(scores: Mapping[str, Mapping[Run, dict[str, Any]]]) -> list[Row]:
    """The table, the best recipe first; a recipe without any run is left out.

    Args:
        scores: per recipe, its results by run.
    """
    runs = common_runs(scores)
    if not runs:
        return []
    accuracy = {name: [of[run]["accuracy"] for run in runs] for name, of in scores.items() if of}
    seconds = {name: mean(scores[name][run]["seconds"] for run in runs) for name in accuracy}
    order = sorted(accuracy, key=lambda name: (-mean(accuracy[name]), seconds[name]))
    table = [_row(name, runs, accuracy, order[0], seconds[name]) for name in order]
    return _marked(table)


def _row(name: str, runs: Sequence[Run], accuracy: Mapping[str, list[float]], best: str, seconds: float) -> Row:
    values = accuracy[name]
    differences = [own - top for own, top in zip(values, accuracy[best], strict=True)]
    error = stdev(differences) / len(runs) ** 0.5 if name != best and len(runs) > 1 else None
    by_data: dict[str, list[float]] = {}
    for (data, _), value in zip(runs, values, strict=True):
        by_data.setdefault(data, []).append(value)
    return Row(name, mean(values), mean(differences), error, {data: mean(of) for data, of in by_data.items()}, seconds)


def _marked(table: Sequence[Row]) -> list[Row]:
    close = [row for row in table[1:] if row.error is not None and -row.difference <= row.error]
    chosen = min([table[0], *close], key=lambda row: row.seconds)
    marks: dict[str, tuple[str, ...]] = {row.name: (CLOSE,) for row in close}
    marks[table[0].name] = (BEST,)
    marks[chosen.name] += (CHOSEN,)
    return [Row(**{**row.__dict__, "marks": marks.get(row.name, ())}) for row in table]


def cells(table: Sequence[Row]) -> list[list[str]]:
    """Header and rows as text."""
    data = list(table[0].by_data)
    header = ["recipe", "mean held-out accuracy", "difference to the best (SE)", *data, "training, s", ""]
    return [header, *([*_numbers(row, data), ", ".join(row.marks)] for row in table)]


def _numbers(row: Row, data: Sequence[str]) -> list[str]:
    error = "" if row.error is None else f" ({row.error:.4f})"
    difference = "" if BEST in row.marks else f"{row.difference:+.4f}{error}"
    return [
        row.name,
        f"{row.accuracy:.4f}",
        difference,
        *(f"{row.by_data[name]:.3f}" for name in data),
        f"{row.seconds:.0f}",
    ]


def as_text(table: Sequence[Row]) -> str:
    """Columns of equal width."""
    lines = cells(table)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def as_markdown(table: Sequence[Row]) -> str:
    header, *lines = cells(table)
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *lines))
