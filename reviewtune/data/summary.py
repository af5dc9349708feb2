"""Summary of the labelled data: counts, lengths, annotator agreement, duplicates, and warnings.

Stage prepare writes it with every run; `reviewtune check-data` checks more.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from reviewtune.core.config.data import DataConfig
from reviewtune.core.formatting import counted, markdown_table, with_counts
from reviewtune.data import language_detection, personal_data
from reviewtune.data.reviews import ADVISED_EXAMPLES, ADVISED_PER_LABEL, Prepared
from reviewtune.data.splits import METHOD, SimilarPair, near_duplicates

SHOWN = 20
IMBALANCE = 10  # warn if the most frequent label has this many times the reviews of the rarest
FAR_OUT = 3.0  # interquartile ranges beyond the quartiles, on the logarithm of the length (Tukey 1977, chapter 2)
FOREIGN_SHARE = 0.02  # warn if more than this share of the reviews is in another language than declared
MOST_DETECTED = 20_000  # texts whose language is detected: each takes 0.4 ms, and shares need no more


@dataclass(frozen=True)
class Characters:
    """Lengths of the reviews in characters."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, lengths: pd.Series) -> "Characters":
        return cls(*(float(lengths.quantile(q)) for q in (0, 0.5, 1)))


@dataclass(frozen=True)
class Agreement:
    """How two annotators agree: rows with two labels, the share with equal ones, and Cohen's kappa."""

    n: int
    share: float
    kappa: float


@dataclass(frozen=True)
class PersonalDataCounts:
    """Number of reviews with each kind of personal data, and whether it was masked."""

    email: int
    order_number: int
    phone: int
    masked: bool


@dataclass(frozen=True)
class DataSummary:
    """The content of reports/data.json; the fields are its keys, in this order."""

    name: str
    reviews: int
    labels: dict[str, int]
    languages: dict[str, int]  # as declared
    languages_detected: dict[str, int]
    slices: dict[str, dict[str, int]]  # column -> value -> reviews
    characters: Characters
    length_outliers: list[str]  # review ids, at most SHOWN
    agreement: Agreement | None  # None without second labels
    personal_data: PersonalDataCounts
    empty_rows_skipped: int
    exact_duplicates_merged: int
    conflicts: list[str]
    near_duplicates: list[tuple[str, str, float]]  # two review ids and their similarity, at most SHOWN
    near_duplicate_pairs: int
    near_duplicate_method: str
    warnings: list[str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def describe(prepared: Prepared, data: DataConfig, *, similarity: float) -> DataSummary:
    """Summarise prepared reviews.

    Args:
        prepared: the reviews.
        data: the configuration that they were prepared with.
        similarity: texts at least this alike (`splits.METHOD`) are near-duplicates.
    """
    reviews = prepared.reviews
    texts, lengths = reviews["text"].tolist(), reviews["text"].str.len()
    with ThreadPoolExecutor(1) as thread:  # loading the language model takes as long as importing scikit-learn
        detected = thread.submit(language_counts, texts)
        pairs = near_duplicates(texts, similarity)
    ids = reviews["review_id"].tolist()
    labels = {label: int((reviews["label"] == label).sum()) for label in data.labels}
    languages = _counts(reviews["language"])
    personal = PersonalDataCounts(**personal_data.count(texts, data.language), masked=data.mask_personal)
    return DataSummary(
        name=data.name,
        reviews=len(reviews),
        labels=labels,
        languages=languages,
        languages_detected=detected.result(),
        slices={column: _counts(reviews[column]) for column in data.slices},
        characters=Characters.of(lengths),
        length_outliers=[ids[i] for i in length_outliers(lengths)[:SHOWN]],
        agreement=agreement(reviews),
        personal_data=personal,
        empty_rows_skipped=prepared.empty_rows,
        exact_duplicates_merged=prepared.merged,
        conflicts=prepared.conflicts,
        near_duplicates=[_named(pair, ids) for pair in pairs[:SHOWN]],
        near_duplicate_pairs=len(pairs),
        near_duplicate_method=f"{METHOD} >= {similarity:g}",
        warnings=[
            *_size_warnings(labels),
            *_personal_warnings(personal),
            *_language_warnings(languages, detected.result()),
            *_conflict_warnings(prepared.conflicts),
        ],
    )


def to_markdown(summary: DataSummary) -> str:
    """The page reports/data.md."""
    agreement, characters = summary.agreement, summary.characters
    agreed = (
        f"they agree on {agreement.share:.1%} of {counted(agreement.n, 'row')}, Cohen's kappa {agreement.kappa:.3f}"
        if agreement
        else "no second label in the data"
    )
    lines = [
        f"# Data: {summary.name}",
        "",
        f"- {counted(summary.reviews, 'review')}; languages: {with_counts(summary.languages)}",
        f"- characters: {characters.min:.0f} to {characters.max:.0f}, median {characters.median:.0f}",
        f"- lengths far from the rest: {', '.join(summary.length_outliers) or 'none'}",
        f"- language detected from the text: {with_counts(summary.languages_detected)}{_sampled(summary)}",
        f"- personal data, reviews with: {_personal(summary.personal_data)}",
        f"- annotators: {agreed}",
        f"- empty rows skipped: {summary.empty_rows_skipped}",
        f"- exact duplicates merged: {summary.exact_duplicates_merged}; conflicts resolved: {len(summary.conflicts)}",
        f"- near-duplicate pairs ({summary.near_duplicate_method}): {summary.near_duplicate_pairs}, kept on one side",
        "",
        markdown_table(["label", "reviews"], [[label, str(count)] for label, count in summary.labels.items()]),
        "",
        "## Warnings",
        *([f"- {warning}" for warning in summary.warnings] or ["none"]),
    ]
    return "\n".join(lines) + "\n"


def agreement(reviews: pd.DataFrame) -> Agreement | None:
    """Agreement of `label` and `label_second` on the rows that have both; None if no row has a second label.

    Source:
        Cohen, Educational and Psychological Measurement 20 (1960) 37-46.
    """
    from sklearn.metrics import cohen_kappa_score

    both = reviews[reviews["label_second"] != ""]
    if both.empty:
        return None
    share = float((both["label"] == both["label_second"]).mean())
    kappa = 1.0 if share == 1 else float(cohen_kappa_score(both["label"], both["label_second"]))
    return Agreement(len(both), round(share, 6), round(kappa, 6))


def length_outliers(lengths: Sequence[int] | pd.Series) -> list[int]:
    """Positions of the lengths (in characters) beyond Tukey's outer fences, on the logarithm."""
    logs = np.log(np.maximum(np.asarray(lengths, dtype=float), 1))
    low, high = np.quantile(logs, [0.25, 0.75])
    reach = FAR_OUT * (high - low)
    return [int(i) for i in np.flatnonzero((logs < low - reach) | (logs > high + reach))]


def language_counts(texts: Sequence[str]) -> dict[str, int]:
    """Number of texts per ISO 639-1 code (or "unsure"), the most frequent first; of very many texts, of a sample."""
    step = max(1, -(-len(texts) // MOST_DETECTED))
    counts = Counter(each.language for each in language_detection.detect(texts[::step]))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(value): int(count) for value, count in values.value_counts().items()}


def _named(pair: SimilarPair, ids: Sequence[str]) -> tuple[str, str, float]:
    return ids[pair.left], ids[pair.right], round(pair.similarity, 4)


def _sampled(summary: DataSummary) -> str:
    number = sum(summary.languages_detected.values())
    return "" if number == summary.reviews else f" (of a sample of {number:,})"


def _personal(personal: PersonalDataCounts) -> str:
    kinds = ", ".join(f"{kind.replace('_', ' ')} {getattr(personal, kind)}" for kind in personal_data.KINDS)
    return f"{kinds} ({'masked' if personal.masked else 'not masked'})"


def _size_warnings(labels: Mapping[str, int]) -> list[str]:
    total, most, fewest = sum(labels.values()), max(labels.values()), min(labels.values())
    scarce = {label: count for label, count in labels.items() if count < ADVISED_PER_LABEL}
    warnings = []
    if total < ADVISED_EXAMPLES:
        warnings.append(f"{counted(total, 'review')}; start with at least {ADVISED_EXAMPLES}, better 500")
    if scarce:
        warnings.append(f"under {ADVISED_PER_LABEL} reviews of: {with_counts(scarce)}")
    if most >= IMBALANCE * fewest:
        warnings.append(f"imbalance: {counted(most, 'review')} of one label, {fewest} of another")
    return warnings


def _personal_warnings(personal: PersonalDataCounts) -> list[str]:
    if personal.masked or not (personal.email or personal.order_number or personal.phone):
        return []
    return [f"personal data in the reviews: {_personal(personal)}; data.mask_personal=true masks it"]


def _language_warnings(declared: Mapping[str, int], detected: Mapping[str, int]) -> list[str]:
    known = {language_detection.UNSURE, *(code for name in declared for code in language_detection.codes_of(name))}
    foreign = {code: count for code, count in detected.items() if code not in known}
    if sum(foreign.values()) <= FOREIGN_SHARE * sum(detected.values()):
        return []
    return [f"reviews in other languages than {', '.join(declared)}: {with_counts(foreign)}"]


def _conflict_warnings(conflicts: Sequence[str]) -> list[str]:
    return [f"several labels for {counted(len(conflicts), 'text')}: {'; '.join(conflicts[:5])}"] if conflicts else []
