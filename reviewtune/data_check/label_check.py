"""The check of the labels: are they labels, does each have enough reviews, and is none there in two spellings?"""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from reviewtune.core.formatting import counted, with_counts
from reviewtune.data.first_config import MOST_LABELS
from reviewtune.data.reviews import ADVISED_EXAMPLES, ADVISED_PER_LABEL, MIN_ROWS_PER_LABEL
from reviewtune.data.summary import IMBALANCE
from reviewtune.data_check.checks import CheckResult, Level
from reviewtune.data_check.facts import LabelFacts
from reviewtune.data_check.labelled_file import LabelledFile

SAME_NAME = 0.92  # label names whose letters match more than this may be two spellings of one label


def labels(file: LabelledFile) -> CheckResult[LabelFacts]:
    """Does every label have enough reviews, and about as many as the others?"""
    frequencies = Counter(file.table["label"])
    counts = {name: frequencies[name] for name in sorted(file.labels, key=lambda name: (-frequencies[name], name))}
    imbalance = round(max(counts.values()) / max(min(counts.values()), 1), 2)
    are_many = not file.declared and len(counts) > MOST_LABELS
    is_free_text = are_many and len(file.table) < MIN_ROWS_PER_LABEL * len(counts)
    compared = () if file.declared or are_many else combinations(sorted(counts), 2)  # grows with the square
    alike = tuple(pair for pair in compared if _same_name(*pair))
    level, says, do = _free_text(file, counts) if is_free_text else _label_findings(counts, alike, len(frequencies))
    facts = LabelFacts(counts=counts, imbalance=imbalance, alike=alike, declared=file.declared)
    return CheckResult("labels", "Labels and balance", level, says, do, facts)


def _free_text(file: LabelledFile, counts: Mapping[str, int]) -> tuple[Level, str, str]:
    """As `_label_findings`, of so many different values that nobody would read them."""
    place = "labels" if file.kind == "jsonl" else "a label column"
    says = f"{len(counts):,} different values in {counted(len(file.table), 'row')}: this does not look like {place}"
    do = "name the column with the labels (--label-column); if it is this one, describe the file in conf/data/"
    if file.kind == "jsonl":
        do = "the answers must be labels, or JSON with a label; if they are, describe the labels in conf/data/"
    return "problem" if min(counts.values()) < MIN_ROWS_PER_LABEL else "notice", says, do


def _label_findings(counts: Mapping[str, int], alike: Sequence[tuple[str, str]], used: int) -> tuple[Level, str, str]:
    """Level, finding and next step; `used` is the number of labels with reviews."""
    total, most, fewest = sum(counts.values()), max(counts.values()), min(counts.values())
    says = f"{counted(len(counts), 'label')}, {f'{fewest} to ' if fewest < most else ''}{counted(most, 'review')} each"
    names = f"these may be two spellings of one label: {', '.join(' / '.join(pair) for pair in alike)}"
    rare = {name: n for name, n in counts.items() if n < MIN_ROWS_PER_LABEL}
    scarce = {name: n for name, n in counts.items() if n < ADVISED_PER_LABEL}
    if rare or used < 2:
        do = "label more reviews of them, merge them into other labels, or remove them" + (
            f"; {names}" if alike else ""
        )
        return "problem", f"{says}: {_too_few(rare)}", do
    if alike:
        return "notice", f"{says}; {names}", "use one spelling"
    if scarce:
        return "notice", f"{says}; under {ADVISED_PER_LABEL}: {with_counts(scarce)}", "label more of these first"
    if most >= IMBALANCE * max(fewest, 1):
        do = "label more of the rare ones, and compare macro F1 instead of accuracy"
        return "notice", f"{says}: the most frequent is {most / fewest:.0f} times as frequent as the rarest", do
    if total < ADVISED_EXAMPLES:
        return "notice", f"{says}, {total} in all", f"start with at least {ADVISED_EXAMPLES} reviews, better 500"
    return "fine", says, ""


def _too_few(rare: Mapping[str, int]) -> str:
    if not rare:
        return "only one is used"
    return f"{len(rare)} of them below the {MIN_ROWS_PER_LABEL} needed to train and test: {with_counts(rare)}"


def _same_name(left: str, right: str) -> bool:
    plain = [name.casefold().replace("_", "").replace("-", "").replace(" ", "") for name in (left, right)]
    matcher = difflib.SequenceMatcher(None, plain[0], plain[1])
    bounds = (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)  # each is below the one before, and slower
    return plain[0] == plain[1] or all(ratio() > SAME_NAME for ratio in bounds)
