"""What is in the labelled data: counts, lengths, agreement of annotators, duplicates, and what to mend."""

from typing import Any

import pandas as pd

from reviewtune.config import Data
from reviewtune.dataset import ADVISED_EXAMPLES, ADVISED_PER_LABEL, Prepared
from reviewtune.splits import METHOD, near_duplicates

SHOWN = 20
IMBALANCE = 10  # the commonest label this many times as frequent as the rarest is worth a warning


def describe(prepared: Prepared, data: Data, *, similarity: float) -> dict[str, Any]:
    """Facts for reports/data.json, in a stable order."""
    reviews = prepared.reviews
    lengths = reviews["text"].str.len()
    pairs = near_duplicates(reviews["text"].tolist(), similarity)
    ids = reviews["review_id"].tolist()
    facts: dict[str, Any] = {
        "name": data.name,
        "reviews": len(reviews),
        "labels": {label: int((reviews["label"] == label).sum()) for label in data.labels},
        "languages": {str(k): int(v) for k, v in reviews["language"].value_counts().items()},
        "slices": {c: {str(k): int(v) for k, v in reviews[c].value_counts().items()} for c in data.slices},
        "characters": {name: float(lengths.quantile(q)) for name, q in (("min", 0), ("median", 0.5), ("max", 1))},
        "agreement": _agreement(reviews),
        "exact_duplicates_merged": prepared.merged,
        "conflicts": prepared.conflicts,
        "near_duplicates": [[ids[p.left], ids[p.right], round(p.similarity, 4)] for p in pairs[:SHOWN]],
        "near_duplicate_pairs": len(pairs),
        "near_duplicate_method": f"{METHOD} >= {similarity:g}",
    }
    return {**facts, "warnings": _warnings(facts)}


def to_markdown(facts: dict[str, Any]) -> str:
    """The same for people."""
    agreement, characters = facts["agreement"], facts["characters"]
    agreed = (
        f"{agreement['share']:.1%} of {agreement['n']} rows, Cohen's kappa {agreement['kappa']:.3f}"
        if agreement
        else "no second label in the data"
    )
    lines = [
        f"# Data: {facts['name']}",
        "",
        f"- {facts['reviews']} reviews; languages: {', '.join(f'{k} {v}' for k, v in facts['languages'].items())}",
        f"- characters: {characters['min']:.0f} to {characters['max']:.0f}, median {characters['median']:.0f}",
        f"- annotators agree on {agreed}",
        f"- exact duplicates merged: {facts['exact_duplicates_merged']}; conflicts settled: {len(facts['conflicts'])}",
        f"- near-duplicate pairs ({facts['near_duplicate_method']}): {facts['near_duplicate_pairs']}, kept on one side",
        "",
        "| label | reviews |",
        "|---|---:|",
        *(f"| {label} | {count} |" for label, count in facts["labels"].items()),
        "",
        "## Warnings",
        *([f"- {warning}" for warning in facts["warnings"]] or ["none"]),
    ]
    return "\n".join(lines) + "\n"


def _agreement(reviews: pd.DataFrame) -> dict[str, float] | None:
    from sklearn.metrics import cohen_kappa_score

    both = reviews[reviews["label_second"] != ""]
    if both.empty:
        return None
    share = float((both["label"] == both["label_second"]).mean())
    kappa = 1.0 if share == 1 else float(cohen_kappa_score(both["label"], both["label_second"]))
    return {"n": len(both), "share": round(share, 6), "kappa": round(kappa, 6)}


def _warnings(facts: dict[str, Any]) -> list[str]:
    counts = facts["labels"]
    scarce = [f"{label} {count}" for label, count in counts.items() if count < ADVISED_PER_LABEL]
    warnings = []
    if facts["reviews"] < ADVISED_EXAMPLES:
        warnings.append(f"{facts['reviews']} reviews; start with at least {ADVISED_EXAMPLES}, better 500")
    if scarce:
        warnings.append(f"under {ADVISED_PER_LABEL} reviews of: {', '.join(scarce)}")
    if max(counts.values()) >= IMBALANCE * min(counts.values()):
        warnings.append(f"imbalance: {max(counts.values())} reviews of one label, {min(counts.values())} of another")
    if facts["conflicts"]:
        warnings.append(f"{len(facts['conflicts'])} text(s) bore several labels: {'; '.join(facts['conflicts'][:5])}")
    return warnings
