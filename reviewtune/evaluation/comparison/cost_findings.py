"""What the comparison says about money and time: the training paid back, and how long an answer takes."""

from collections.abc import Mapping
from typing import Any

from reviewtune.core.formatting import money, rate, seconds
from reviewtune.evaluation.comparison.findings import finetuned_of

Report = Mapping[str, Any]
BOOKS = {"at_provider": "", "at_gpt_4o_mini": " at gpt-4o-mini's prices"}
LATENCIES = ("latency_p50", "latency_p95", "latency_p99")


def cost_lines(report: Report) -> list[str]:
    """Where the fine-tune's training pays, against the best prompt arm: at the provider's prices, else at OpenAI's."""
    found = report.get("economics")
    tuned = finetuned_of(report)
    if not found or tuned is None:
        return []
    known = {name: found[name] for name in BOOKS if found[name]}
    paid = {name: book for name, book in known.items() if book["training_usd"] or book["cost_per_1k_of_the_prompt"]}
    if not paid:
        return ["this provider charges nothing"] if known else []
    name, book = next(iter(paid.items()))
    spread = [f"over {int(volume):,} reviews {money(usd)}" for volume, usd in book["amortised_per_1k"].items()]
    other, prompted = found["against"], money(book["cost_per_1k_of_the_prompt"])
    own, training = money(book["cost_per_1k"]), money(book["training_usd"])
    asked = f"{other} (the best prompt arm) {prompted}, {tuned['arm']} {own}"
    return [
        f"1,000 reviews{BOOKS[name]}: {asked}, with its training ({training}) spread {', '.join(spread)}",
        f"{tuned['arm']}, training included, {_pays(book['break_even_reviews'], other)}",
    ]


def latency_rows(report: Report) -> list[list[str]]:
    """A head and a row for each arm that was asked request by request; empty when all came in batches."""
    arms = [arm for arm in report["arms"] if arm.get("latency_p50") is not None]
    rows = [
        [arm["arm"], *(seconds(arm.get(name)) for name in LATENCIES), rate(arm["reviews_per_second"])] for arm in arms
    ]
    return [["an answer after", "p50", "p95", "p99", "reviews/s"], *rows] if rows else []


def _pays(reviews: int | None, other: str) -> str:
    if reviews is None:
        return f"never costs less than {other}"
    if reviews == 0:
        return f"costs no more than {other} from the first review on"
    return f"costs no more than {other} from {reviews:,} reviews on"
