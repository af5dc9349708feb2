"""The tables of the comparison as text cells: base against fine-tuned, all arms, response times."""

from typing import NamedTuple

from reviewtune.core.formatting import (
    change,
    counted,
    money,
    p_value,
    percent,
    points,
    rate,
    seconds,
    times,
    with_interval,
)
from reviewtune.evaluation.comparison.comparison_file import ArmRow, Comparison, ReferenceTest

RESPONSE_HEAD = ("response time", "p50", "p95", "p99", "reviews/s")


class GuideRow(NamedTuple):
    """One line of the table that fine-tuning guides show."""

    metric: str
    base: str
    finetuned: str
    improvement: str


def guide_rows(comparison: Comparison) -> list[GuideRow]:
    """The reference, the fine-tuned arm and the improvement; empty without a fine-tuned arm."""
    base, finetuned = comparison.reference_arm, comparison.finetuned
    if finetuned is None:
        return []
    speeds = (base.reviews_per_second, finetuned.reviews_per_second)
    return [
        _share("Accuracy", base.accuracy.value, finetuned.accuracy.value),
        _share("Precision", base.precision, finetuned.precision),
        _share("Recall", base.recall, finetuned.recall),
        _share("F1", base.f1, finetuned.f1),
        _share("Macro F1", base.macro_f1, finetuned.macro_f1),
        *_slice_rows(base, finetuned),
        _cost("Cost per 1,000", base.cost_per_1k, finetuned.cost_per_1k),
        _cost("... at gpt-4o-mini", base.cost_per_1k_at_gpt_4o_mini, finetuned.cost_per_1k_at_gpt_4o_mini),
        GuideRow("Reviews per second", rate(speeds[0]), rate(speeds[1]), times(*speeds)),
    ]


def arm_rows(comparison: Comparison) -> list[dict[str, str]]:
    """One row per arm: heading -> cell. All columns, for Markdown."""
    return [_cells(arm, comparison.reference) for arm in comparison.arms]


def short_arm_rows(comparison: Comparison) -> list[dict[str, str]]:
    """One row per arm, without the columns that a terminal has no room for."""
    free = comparison.is_free
    unusable = any(arm.invalid for arm in comparison.arms)
    return [_short_cells(arm, comparison.reference, free=free, unusable=unusable) for arm in comparison.arms]


def response_rows(comparison: Comparison) -> list[list[str]]:
    """One row per arm that was asked request by request, with the columns of `RESPONSE_HEAD`."""
    return [
        [arm.arm, *map(seconds, (arm.latency_p50, arm.latency_p95, arm.latency_p99)), rate(arm.reviews_per_second)]
        for arm in comparison.arms
        if arm.latency_p50 is not None
    ]


def _share(name: str, base: float, finetuned: float) -> GuideRow:
    return GuideRow(name, percent(base), percent(finetuned), f"{points(finetuned - base)} points")


def _cost(name: str, base: float | None, finetuned: float | None) -> GuideRow:
    return GuideRow(name, money(base), money(finetuned), change(base, finetuned))


def _slice_rows(base: ArmRow, finetuned: ArmRow) -> list[GuideRow]:
    return [
        _share(
            f"Accuracy, {name} ({counted(part.n, 'review')})",
            part.accuracy.value,
            finetuned.slices[name].accuracy.value,
        )
        for name, part in base.slices.items()
        if name in finetuned.slices
    ]


def _cells(arm: ArmRow, reference: str) -> dict[str, str]:
    return {
        "Arm": arm.arm,
        "Model": arm.model,
        "Accuracy": with_interval(arm.accuracy),
        "F1": percent(arm.f1),
        "Macro F1": percent(arm.macro_f1),
        **{name: percent(part.accuracy.value) for name, part in arm.slices.items()},
        "Cost per 1,000": money(arm.cost_per_1k),
        "at gpt-4o-mini": money(arm.cost_per_1k_at_gpt_4o_mini),
        "Reviews/s": rate(arm.reviews_per_second),
        "Unusable": str(arm.invalid),
        f"Against {reference}": _against(arm.against_reference),
    }


def _short_cells(arm: ArmRow, reference: str, *, free: bool, unusable: bool) -> dict[str, str]:
    cost = {"$/1k at\n4o-mini": arm.cost_per_1k_at_gpt_4o_mini} if free else {"$/1k": arm.cost_per_1k}
    return {
        "arm": arm.arm,
        "accuracy %": with_interval(arm.accuracy).replace(" %", ""),
        "F1": percent(arm.f1).removesuffix(" %"),
        **({} if arm.hard_accuracy is None else {"hard": percent(arm.hard_accuracy).removesuffix(" %")}),
        **{heading: money(usd) for heading, usd in cost.items()},
        "per s": rate(arm.reviews_per_second),
        **({"unusable": str(arm.invalid)} if unusable else {}),
        f"against\n{reference}": _short_against(arm.against_reference),
    }


def _against(test: ReferenceTest | None) -> str:
    if test is None:
        return "reference"
    bounds = f"[{points(test.difference.low)}, {points(test.difference.high)}]"
    return f"{points(test.difference.value)} {bounds}, {p_value(test.holm_p)} {test.verdict}"


def _short_against(test: ReferenceTest | None) -> str:
    return "reference" if test is None else f"{points(test.difference.value)} {test.verdict}"
