"""Numbers and tables for people: percentages with their interval, points, p-values, money, rates, Markdown tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

NONE = "–"
"""Shown where a value is not known."""


class Interval(Protocol):
    """A share in [0, 1] with the bounds of its confidence interval."""

    @property
    def value(self) -> float: ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


def with_interval(share: Interval) -> str:
    """`81.9 % [75.8, 86.7]`."""
    return f"{percent(share.value)} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def percent(share: float) -> str:
    """`81.9 %`, of a share in [0, 1]."""
    return f"{100 * share:.1f} %"


def points(share: float) -> str:
    """`+38.3`: a difference of two shares in percentage points, always with its sign."""
    return _minus(f"{100 * share:+.1f}")


def p_value(value: float) -> str:
    """`p = 0.043`, or `p < 0.001` below that."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def money(dollars: float | None) -> str:
    """`$1.50`; amounts below one dollar with four decimals."""
    if dollars is None:
        return NONE
    return f"${dollars:.2f}" if dollars == 0 or dollars >= 1 else f"${dollars:.4f}"


def counted(n: int, noun: str) -> str:
    """`1 review`, `2 reviews`, `1 entry`, `1,200 entries`: a number and its noun.

    Args:
        n: how many.
        noun: the singular; its last word gets the ending.
    """
    return f"{n:,} {noun if n == 1 else _plural(noun)}"


def with_counts(counts: Mapping[str, int]) -> str:
    """`a 3, b 1`: names with their numbers."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def listed(items: Sequence[str], *, shown: int) -> str:
    """`a, b, c`, or `a, b and 7 more` if there are more than `shown`."""
    rest = len(items) - shown
    return ", ".join(items) if rest <= 0 else f"{', '.join(items[:shown])} and {rest:,} more"


def seconds(value: float | None) -> str:
    """`0.25 s`."""
    return NONE if value is None else f"{value:.2f} s"


def rate(value: float | None) -> str:
    """`7.5`, `1,662`: a number per second."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def change(base: float | None, finetuned: float | None) -> str:
    """`−49 %`: the relative change from the base model's value to the fine-tuned model's."""
    return _minus(f"{100 * (finetuned / base - 1):+.0f} %") if base and finetuned is not None else NONE


def times(base: float | None, finetuned: float | None) -> str:
    """`1.2 x`: the fine-tuned model's value as a multiple of the base model's."""
    return f"{finetuned / base:.1f} x" if base and finetuned else NONE


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right_aligned: bool = True) -> str:
    """A table in GitHub's Markdown. pandas' `to_markdown` would do it, but needs the package tabulate.

    Args:
        head: the columns' headings.
        rows: as many cells each as `head`.
        right_aligned: align every column but the first on the right, as numbers are; otherwise all on the left.
    """
    rule = ["---", *["---:" if right_aligned else "---"] * (len(head) - 1)]
    cells = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|", *(f"| {' | '.join(row)} |" for row in cells)]
    return "\n".join(lines)


def _minus(text: str) -> str:
    """With the minus sign, which is as wide as a plus sign."""
    return text.replace("-", "−")


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else f"{noun}s"
