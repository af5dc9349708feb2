"""The check of the splits: is every label in each of them, and do they suffice for what the arms are set to?"""

import math
from pathlib import Path

import pandas as pd

from reviewtune.core.config.config import Config
from reviewtune.core.formatting import counted
from reviewtune.data.chat.chat_files import MIN_EXAMPLES
from reviewtune.data.frozen_splits import divide
from reviewtune.data.reviews import mask_and_merge, refuse_rare_labels, refuse_repeated_ids
from reviewtune.data.sides.frozen_file import read_frozen
from reviewtune.data.splits import Splits
from reviewtune.data.tables import read_table
from reviewtune.data_check.checks import CheckResult
from reviewtune.data_check.facts import Facts, SplitFacts
from reviewtune.data_check.labelled_file import LabelledFile
from reviewtune.errors import DataError
from reviewtune.evaluation.notices.capacity import capacity_notices

NAME, TITLE = "splits", "Splits and arms"


def splits(file: LabelledFile, config: Config, frozen: Path | None = None) -> CheckResult[Facts]:
    """Split the reviews as the pipeline does, and ask what the splits do not suffice for.

    Args:
        file: the reviews.
        config: the pipeline's settings; its section `data` describes the file.
        frozen: the project's data/frozen_splits.csv; None: no review has a frozen side.
    """
    policy = config.data.conflicts
    kept = config.data.model_copy(update={"conflicts": "drop" if policy == "refuse" else policy})  # another check's
    try:
        if file.declared and config.data.slices:
            read_table(file.path).require(config.data.slices)
        refuse_repeated_ids(file.path, file.table)
        reviews, _ = mask_and_merge(file.path, file.table, kept)
        if file.declared and not file.faults:
            refuse_rare_labels(file.path, reviews, config.data)
        division = divide(reviews, config, read_frozen(frozen) if frozen else {})
    except DataError as error:
        do = "the pipeline stops before anything is trained"
        return CheckResult(NAME, TITLE, "problem", str(error), do, Facts())
    parts, notices = division.parts, [*division.notes, *capacity_notices(config, division.parts)]
    train, valid, test = (_counts(part, config) for part in parts)
    facts = SplitFacts(train=train, valid=valid, test=test, notices=tuple(notices))
    if few := _too_few(parts, config):
        says = "; ".join([_sizes(parts), few, *notices])
        return CheckResult(NAME, TITLE, "problem", says, "the pipeline stops at stage format", facts)
    says = "; ".join([_sizes(parts), *notices])
    do = "no action is needed, except for a prompt that is too long: each arm works with what there is"
    return CheckResult(NAME, TITLE, "notice" if notices else "fine", says, do if notices else "", facts)


def _too_few(parts: Splits, config: Config) -> str:
    """Why no chat file can be written of the training or the validation reviews; empty if both can."""
    share, train_size = (1 - config.split.test) * config.split.validation, config.data.train_size
    if len(parts.valid) < MIN_EXAMPLES:
        more = math.ceil((MIN_EXAMPLES - len(parts.valid)) / share)
        do = f"label about {more:,} more reviews, or raise split.validation ({config.split.validation:g})"
        return f"at least {MIN_EXAMPLES} reviews for validation are needed: {do}"
    if len(parts.train) < MIN_EXAMPLES:
        do = "label more reviews" if train_size == "all" else f"raise data.train_size ({train_size})"
        return f"at least {MIN_EXAMPLES} reviews for training are needed: {do}"
    return ""


def _sizes(parts: Splits) -> str:
    training = counted(len(parts.train), "review")
    return f"{training} for training, {len(parts.valid)} for validation, {len(parts.test)} for testing"


def _counts(part: pd.DataFrame, config: Config) -> dict[str, int]:
    """Reviews of each label."""
    counts = part["label"].value_counts()
    return {label: int(counts.get(label, 0)) for label in config.data.labels}
