"""What is in the labelled data: counts, lengths, agreement of annotators, duplicates, and what to mend.

The quick part of `reviewtune check-data`, which stage prepare writes with every run.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

from reviewtune.core.config import DataConfig
from reviewtune.core.formatting import markdown_table
from reviewtune.data import language_detection, personal_data
from reviewtune.data.reviews import ADVISED_EXAMPLES, ADVISED_PER_LABEL, Prepared
from reviewtune.data.splits import METHOD, near_duplicates

SHOWN = 20
IMBALANCE = 10  # the commonest label this many times as frequent as the rarest is worth a warning
FAR_OUT = 3.0  # interquartile ranges beyond the quartiles, on the logarithm of the length (Tukey 1977, chapter 2)
FOREIGN_SHARE = 0.02  # this many reviews in another language than the declared one are worth a warning


def describe(prepared: Prepared, data: DataConfig, *, similarity: float) -> dict[str, Any]:
    """Facts for reports/data.json, in a stable order."""
    reviews = prepared.reviews
    lengths = reviews["text"].str.len()
    with ThreadPoolExecutor(1) as beside:  # to unpack the languages' model takes as long as to import scikit-learn
        detected = beside.submit(language_counts, reviews["text"].tolist())
        pairs = near_duplicates(reviews["text"].tolist(), similarity)
    ids = reviews["review_id"].tolist()
    facts: dict[str, Any] = {
        "name": data.name,
        "reviews": len(reviews),
        "labels": {label: int((reviews["label"] == label).sum()) for label in data.labels},
        "languages": {str(k): int(v) for k, v in reviews["language"].value_counts().items()},
        "languages_detected": detected.result(),
        "slices": {c: {str(k): int(v) for k, v in reviews[c].value_counts().items()} for c in data.slices},
        "characters": {name: float(lengths.quantile(q)) for name, q in (("min", 0), ("median", 0.5), ("max", 1))},
        "length_outliers": [ids[i] for i in length_outliers(lengths)[:SHOWN]],
        "agreement": agreement(reviews),
        "personal_data": {**personal_data.count(reviews["text"], data.language), "masked": data.mask_personal},
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
        f"- lengths far from the rest: {', '.join(facts['length_outliers']) or 'none'}",
        f"- language told from the text: {', '.join(f'{k} {v}' for k, v in facts['languages_detected'].items())}",
        f"- personal data, reviews with: {_personal(facts['personal_data'])}",
        f"- annotators agree on {agreed}",
        f"- exact duplicates merged: {facts['exact_duplicates_merged']}; conflicts settled: {len(facts['conflicts'])}",
        f"- near-duplicate pairs ({facts['near_duplicate_method']}): {facts['near_duplicate_pairs']}, kept on one side",
        "",
        markdown_table(["label", "reviews"], [[label, str(count)] for label, count in facts["labels"].items()]),
        "",
        "## Warnings",
        *([f"- {warning}" for warning in facts["warnings"]] or ["none"]),
    ]
    return "\n".join(lines) + "\n"


def agreement(reviews: pd.DataFrame) -> dict[str, float] | None:
    """How many rows bear two labels, on what share they agree, and Cohen's kappa; None without a second label."""
    from sklearn.metrics import cohen_kappa_score

    both = reviews[reviews["label_second"] != ""]
    if both.empty:
        return None
    share = float((both["label"] == both["label_second"]).mean())
    kappa = 1.0 if share == 1 else float(cohen_kappa_score(both["label"], both["label_second"]))
    return {"n": len(both), "share": round(share, 6), "kappa": round(kappa, 6)}


def length_outliers(lengths: Sequence[int] | pd.Series) -> list[int]:
    """Positions whose length (in characters) lies far out on either side of the others', in order."""
    logs = np.log(np.maximum(np.asarray(lengths, dtype=float), 1))
    low, high = np.quantile(logs, [0.25, 0.75])
    reach = FAR_OUT * (high - low)
    return [int(i) for i in np.flatnonzero((logs < low - reach) | (logs > high + reach))]


def language_counts(texts: Sequence[str]) -> dict[str, int]:
    """ISO 639-1 code (or "unsure") -> number of texts, commonest first."""
    counts = Counter(guess.language for guess in language_detection.detect(texts))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _personal(found: dict[str, Any]) -> str:
    counts = ", ".join(f"{kind.replace('_', ' ')} {found[kind]}" for kind in personal_data.KINDS)
    return f"{counts} ({'masked' if found['masked'] else 'not masked'})"


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
    found = facts["personal_data"]
    if not found["masked"] and any(found[kind] for kind in personal_data.KINDS):
        warnings.append(f"personal data in the reviews: {_personal(found)}; data.mask_personal=true masks it")
    foreign = {
        k: v
        for k, v in facts["languages_detected"].items()
        if k not in (*facts["languages"], language_detection.UNSURE)
    }
    if sum(foreign.values()) > FOREIGN_SHARE * facts["reviews"]:
        listed = ", ".join(f"{k} {v}" for k, v in foreign.items())
        warnings.append(f"reviews in other languages than {', '.join(facts['languages'])}: {listed}")
    if facts["conflicts"]:
        warnings.append(f"{len(facts['conflicts'])} text(s) bore several labels: {'; '.join(facts['conflicts'][:5])}")
    return warnings
