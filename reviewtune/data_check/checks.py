"""The checks of a file of labelled reviews: one function per question, each returns a `CheckResult`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from reviewtune.core.config.data import Conflicts
from reviewtune.core.formatting import counted, with_counts
from reviewtune.data import language_detection, personal_data
from reviewtune.data.similarity.exact_repeats import exact_repeats
from reviewtune.data.splits import METHOD, near_duplicates
from reviewtune.data.summary import FOREIGN_SHARE, agreement, length_outliers
from reviewtune.data_check.facts import (
    AgreementFacts,
    ConflictFacts,
    ConflictingText,
    ConfusedLabels,
    DuplicateFacts,
    EncodingFacts,
    Facts,
    ForeignReview,
    FormatFacts,
    GarbledReview,
    LanguageFacts,
    LengthFacts,
    LengthOutlier,
    NearDuplicate,
    PersonalDataFacts,
    PersonalReview,
    ReviewPair,
)
from reviewtune.data_check.labelled_file import LabelledFile, garbled

Level = Literal["fine", "notice", "problem", "unknown"]
LEVELS: tuple[Level, ...] = ("problem", "notice", "unknown", "fine")  # the worst first
GOOD_KAPPA = 0.8
KAPPA = ((GOOD_KAPPA, "almost perfect"), (0.6, "substantial"), (0.4, "moderate"), (0.2, "fair"), (-1.0, "slight"))
"""Terms of Landis and Koch, Biometrics 33 (1977) 159-174."""
RESAMPLES = 2_000
SHOWN_CONFUSIONS = 10

FactsT = TypeVar("FactsT", bound=Facts, covariant=True)


@dataclass(frozen=True)
class CheckResult(Generic[FactsT]):
    """The result of a check.

    Args:
        name: identifies the check, as in the report's links.
        title: its heading.
        level: a problem stops the pipeline or makes its result worthless; unknown means that nothing can be judged.
        says: the finding, with numbers.
        do: the next step; empty if there is none.
        facts: what was measured.
    """

    name: str
    title: str
    level: Level
    says: str
    do: str
    facts: FactsT

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "facts": self.facts.as_json()}


def worst(results: Sequence[CheckResult[Facts]]) -> Level:
    return next(level for level in LEVELS if any(result.level == level for result in results))


def format_(file: LabelledFile) -> CheckResult[FormatFacts]:
    """Can every row be used?"""
    facts = FormatFacts(kind=file.kind, rows=file.rows, usable=len(file.table), faults=file.faults)
    level: Level = "problem" if file.faults else "fine"
    skipped = f"; {counted(file.empty_rows, 'empty row')} skipped" if file.empty_rows else ""
    says, do = f"{counted(file.rows, 'row')}, all usable{skipped}", ""
    if file.faults:
        says = f"{len(file.faults)} of {counted(file.rows, 'row')} cannot be used; {file.faults[0]}{skipped}"
        do = "fix or remove these rows: the pipeline refuses the file as it is"
    return CheckResult("format", "Format", level, says, do, facts)


def encoding(file: LabelledFile) -> CheckResult[EncodingFacts]:
    """Are characters lost or decoded twice?"""
    lines_and_texts = zip(file.table["line"], file.table["text"], strict=True)
    rows = tuple(GarbledReview(int(line), what, text) for line, text in lines_and_texts if (what := garbled(text)))
    name = file.encoding.upper() or "Excel"
    facts = EncodingFacts(name, "CRLF" if "\r\n" in file.raw else "LF", rows)
    level: Level = "notice" if rows else "fine"
    says, do = f"{name}, without garbled text", ""
    if rows:
        kinds = ", ".join(f"{what} in {n}" for what, n in Counter(row.what for row in rows).most_common())
        says = f"{name}, but garbled text in {counted(len(rows), 'row')}: {kinds}"
        do = "export the reviews again as UTF-8: to a model a garbled word is another word"
    return CheckResult("encoding", "Encoding", level, says, do, facts)


def lengths(file: LabelledFile) -> CheckResult[LengthFacts]:
    """Are some reviews far longer or shorter than the rest?"""
    sizes, table = file.table["text"].str.len(), file.table
    outliers = tuple(
        LengthOutlier(int(table["line"].iloc[i]), int(sizes.iloc[i]), table["text"].iloc[i])
        for i in length_outliers(sizes)
    )
    low, middle, high = (int(sizes.quantile(q)) for q in (0, 0.5, 1))
    facts = LengthFacts(min=low, median=middle, max=high, outliers=outliers, all=tuple(int(size) for size in sizes))
    level: Level = "notice" if outliers else "fine"
    far = f"{len(outliers) or 'none'} far from the rest"
    says = f"{low} to {high} characters, median {middle}; {far}"
    do = "look at them: they may be cut texts, pasted documents or empty phrases" if outliers else ""
    return CheckResult("lengths", "Lengths", level, says, do, facts)


def duplicates(file: LabelledFile, similarity: float) -> CheckResult[DuplicateFacts]:
    """Which reviews are repeated, exactly or nearly?

    Args:
        file: the reviews.
        similarity: texts at least this alike (`splits.METHOD`) are near-duplicates.
    """
    folded = file.table["text"].str.casefold()
    exact = tuple(tuple(row.line for row in rows) for rows in _repeated(file))
    near = tuple(
        NearDuplicate(round(cosine, 3), pair.lines, pair.labels, pair.texts)
        for cosine, pair in _similar_reviews(file, similarity)
    )
    facts = DuplicateFacts(exact, near, f"{METHOD} >= {similarity:g}")
    says = (
        f"{counted(int(folded.duplicated().sum()), 'exact repeat')} and {counted(len(near), 'pair')} of near-duplicates"
    )
    if not exact and not near:
        return CheckResult("duplicates", "Duplicates", "fine", says, "", facts)
    do = "no action needed for the scores: repeats become one row, near-duplicates stay in one split"
    return CheckResult("duplicates", "Duplicates", "notice", says, do, facts)


def conflicts(file: LabelledFile, similarity: float, policy: Conflicts) -> CheckResult[ConflictFacts]:
    """Which texts have several labels? `similarity` as in `duplicates`, `policy` is data.conflicts."""
    exact = tuple(
        ConflictingText(rows[0].text, tuple(f"{row.label} (line {row.line})" for row in rows))
        for rows in _repeated(file)
        if len({row.label for row in rows}) > 1
    )
    near = tuple(pair for _, pair in _similar_reviews(file, similarity) if pair.labels[0] != pair.labels[1])
    facts, title = ConflictFacts(exact, near), "Conflicting labels"
    if not exact and not near:
        return CheckResult("conflicts", title, "fine", "no text has two labels", "", facts)
    pairs = counted(len(near), "pair")
    says = f"several labels: {counted(len(exact), 'text')}; different labels: {pairs} of near-duplicates"
    do = "agree on one label each; a model cannot learn what two people cannot decide"
    if exact and policy != "refuse":
        says = f"{says}; data.conflicts={policy} settles the first"
    level: Level = "problem" if exact and policy == "refuse" else "notice"
    return CheckResult("conflicts", title, level, says, do, facts)


def annotators(file: LabelledFile, seed: int) -> CheckResult[Facts]:
    """Do two annotators agree? `seed` is that of the interval's bootstrap."""
    title, agreed = "Annotator agreement", agreement(file.table)
    if agreed is None:
        do = "let a second person label 100 of them: without that, nobody knows how good a model can become"
        return CheckResult("agreement", title, "unknown", "the file has no second label", do, Facts())
    both = file.table[file.table["label_second"] != ""]
    low, high = _kappa_interval(both, seed)
    facts = AgreementFacts(agreed.n, agreed.share, agreed.kappa, low, high, _confused(both))
    term = next(term for bound, term in KAPPA if agreed.kappa >= bound)
    says = (
        f"Cohen's kappa {agreed.kappa:.3f} ({low:.3f} to {high:.3f}, {term}) over {counted(agreed.n, 'row')}, "
        f"the same label on {agreed.share:.1%}"
    )
    if agreed.kappa >= GOOD_KAPPA:
        return CheckResult("agreement", title, "fine", says, "", facts)
    do = "make the labelling guide clearer on these labels; a model cannot agree with people who disagree"
    return CheckResult("agreement", title, "notice", says, do, facts)


def language_mix(file: LabelledFile) -> CheckResult[LanguageFacts]:
    """Are some reviews in another language?"""
    detected = [each.language for each in language_detection.detect(file.table["text"].tolist())]
    counts = dict(Counter(detected).most_common())
    first = next((name for name in counts if name != language_detection.UNSURE), "")
    codes = language_detection.codes_of(file.language)
    main = "+".join(codes if file.declared else codes[:1]) or first
    foreign = tuple(
        ForeignReview(int(line), language, text)
        for line, text, language in zip(file.table["line"], file.table["text"], detected, strict=True)
        if language not in (*main.split("+"), language_detection.UNSURE)
    )
    facts = LanguageFacts(counts=counts, main=main, declared=file.declared, foreign=foreign)
    level: Level = "fine" if len(foreign) <= FOREIGN_SHARE * len(detected) else "notice"
    others = counted(len(foreign), "review")
    do = f"not in {main}: {others}; keep them only if the model has to classify these languages too"
    return CheckResult("languages", "Language mix", level, with_counts(counts), do if level == "notice" else "", facts)


def personal(file: LabelledFile) -> CheckResult[PersonalDataFacts]:
    """Which reviews contain personal data?"""
    rows = tuple(
        PersonalReview(int(line), kinds)
        for line, text in zip(file.table["line"], file.table["text"], strict=True)
        if (kinds := tuple(sorted({item.kind for item in personal_data.find(text, file.language)})))
    )
    counts = {str(kind): sum(kind in row.kinds for row in rows) for kind in personal_data.KINDS}
    facts, title = PersonalDataFacts(counts, rows), "Personal data"
    if not rows:
        says = "no e-mail addresses, telephone or order numbers (names and postal addresses are not searched)"
        return CheckResult("personal", title, "fine", says, "", facts)
    says = "reviews with " + ", ".join(f"{kind.replace('_', ' ')} {n}" for kind, n in counts.items() if n)
    do = "write a masked copy with --mask, or set data.mask_personal=true: a model can repeat its training data"
    return CheckResult("personal", title, "notice", says, do, facts)


class _Row(NamedTuple):
    line: int
    text: str
    label: str


def _repeated(file: LabelledFile) -> list[list[_Row]]:
    """The rows of each text that occurs several times, whatever its case."""
    table = file.table
    rows = list(map(_Row, map(int, table["line"]), table["text"], table["label"]))
    return [[rows[position] for position in positions] for positions in exact_repeats(table["text"])]


def _similar_reviews(file: LabelledFile, similarity: float) -> list[tuple[float, ReviewPair]]:
    """Pairs of near-duplicates with their cosine, the most similar first; exact repeats count once."""
    distinct = file.table[~file.table["text"].str.casefold().duplicated()]
    lines, labels, texts = (distinct[name].tolist() for name in ("line", "label", "text"))
    return [
        (cosine, ReviewPair((lines[left], lines[right]), (labels[left], labels[right]), (texts[left], texts[right])))
        for left, right, cosine in near_duplicates(texts, similarity)
    ]


def _confused(both: pd.DataFrame) -> tuple[ConfusedLabels, ...]:
    pairs = zip(both["label"], both["label_second"], strict=True)
    counts = Counter((min(pair), max(pair)) for pair in pairs if pair[0] != pair[1])
    return tuple(ConfusedLabels(pair, n) for pair, n in counts.most_common(SHOWN_CONFUSIONS))


def _kappa_interval(both: pd.DataFrame, seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap over the rows."""
    names = sorted({*both["label"], *both["label_second"]})
    number = {name: i for i, name in enumerate(names)}
    square = np.zeros((len(names), len(names)))
    for first, second in zip(both["label"], both["label_second"], strict=True):
        square[number[first], number[second]] += 1
    drawn = np.random.default_rng(seed).multinomial(len(both), square.ravel() / len(both), size=RESAMPLES)
    low, high = np.quantile(_kappas(drawn.reshape(-1, *square.shape) / len(both)), [0.025, 0.975])
    return round(float(low), 6), round(float(high), 6)


def _kappas(shares: np.ndarray) -> np.ndarray:
    """Cohen's kappa [draws] of tables [draws, labels, labels] with sum 1; 1 if only one label occurs.

    Cohen, Educational and Psychological Measurement 20 (1960) 37-46.
    """
    observed = np.trace(shares, axis1=1, axis2=2)
    expected = (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
    several = expected < 1 - 1e-12
    kappas = np.ones_like(observed)
    return np.asarray(np.divide(observed - expected, 1 - expected, out=kappas, where=several))
