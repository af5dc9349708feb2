"""What the comparison says beside its tables: label prior, labels, confidence, cascade, repeats, hostile reviews."""

from collections.abc import Mapping
from typing import Any

from reviewtune.core.formatting import money, percent, rate, seconds, with_interval

Report = Mapping[str, Any]
VERDICTS = ("better", "worse")
BOOKS = {"at_provider": "", "at_gpt_4o_mini": " at gpt-4o-mini's prices"}
LATENCIES = ("latency_p50", "latency_p95", "latency_p99")


def sections(report: Report) -> dict[str, list[str]]:
    """Heading -> lines; without the headings that have nothing to say."""
    found = {
        "Accuracy as answered, and with the label prior taken out": correction_lines(report),
        "Confidence, abstaining, cascade": confidence_lines(report),
        "Consistency, hostile reviews, checkpoints": extra_lines(report),
        "Label by label": label_lines(report),
    }
    return {heading: lines for heading, lines in found.items() if lines}


def correction_lines(report: Report) -> list[str]:
    """What taking the label prior out changed, an arm each."""
    arms = [arm for arm in report["arms"] if arm.get("decided_by") == "corrected"]
    ways = ("accuracy_as_answered", "accuracy_prior_corrected")
    return [f"{arm['arm']}: {' -> '.join(with_interval(arm[way]) for way in ways)}" for arm in arms]


def label_lines(report: Report) -> list[str]:
    """On which labels the fine-tuned model is better or worse than each other arm; Holm over the labels."""
    lines = []
    for name, duel in report["finetuned_against"].items():
        found = {
            word: [label for label, one in duel["per_label"].items() if one["verdict"] == word] for word in VERDICTS
        }
        told = [f"{word} on {', '.join(labels)}" for word, labels in found.items() if labels]
        lines.append(f"against {name}: {'; '.join(told) or 'undecided on every label'}")
    return lines


def confidence_lines(report: Report) -> list[str]:
    """How far the fine-tuned model's confidence can be trusted, and what leaving doubtful reviews to others brings."""
    tuned = finetuned_of(report)
    found = report["confidence"].get(tuned["arm"]) if tuned else None
    lines = []
    if tuned and found:
        doubt, error = found["abstention"], found["calibration_error"]
        kept = with_interval(doubt["accuracy"]) if doubt["accuracy"] else "nothing sure enough"
        lines.append(f"{tuned['arm']}: expected calibration error {with_interval(error)}")
        lines.append(
            f"{tuned['arm']}, answering only where it is sure{_threshold(doubt)}, aimed at "
            f"{percent(doubt['wanted_accuracy'])}: answers {percent(doubt['coverage']['value'])} of the reviews, of "
            f"those right: {kept}"
        )
    if cascade := report["cascade"]:
        lines.append(
            f"{cascade['first']}, else {cascade['second']} for {percent(cascade['routed'])} of the reviews: accuracy "
            f"{with_interval(cascade['cascade_accuracy'])}, {money(cascade['cost_per_1k'])} for 1,000 reviews"
        )
    return lines


def _threshold(doubt: Mapping[str, Any]) -> str:
    """How sure is sure enough; each half of the reviews chose one for the other."""
    known = sorted(f"{one:.2f}" for one in doubt["thresholds"] if one is not None)
    return f" (a probability of {' or '.join(dict.fromkeys(known))} at least)" if known else ""


def extra_lines(report: Report) -> list[str]:
    """What was asked beyond the test split: repeats, hostile reviews, the epochs' models."""
    lines = []
    for arm in report["arms"]:
        for temperature, found in arm.get("consistency", {}).items():
            share = with_interval(found["one_answer"])
            lines.append(
                f"{arm['arm']}, asked {found['repeats']} times at {temperature}: {share} of reviews with one answer"
            )
        if hostile := arm.get("injections"):
            share, fell = (
                with_interval(hostile["resisted"]),
                f"obeyed {hostile['obeyed']}, unusable {hostile['unusable']}",
            )
            lines.append(f"{arm['arm']}, {hostile['n']} hostile reviews: resists {share} ({fell})")
        if point := arm.get("checkpoint"):
            loss = "" if point["valid_loss"] is None else f", validation loss {point['valid_loss']:.3f}"
            lines.append(
                f"{arm['arm']}: the model after epoch {point['epoch']} (step {point['step']}{loss}); to look at: "
                "choose by the validation loss, as the best of several on the test reviews looks better than it is"
            )
    return lines


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


def finetuned_of(report: Report) -> Mapping[str, Any] | None:
    return next((arm for arm in report["arms"] if arm["kind"] == "finetuned"), None)
