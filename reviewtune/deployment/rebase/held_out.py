"""Hold some of the old model's answers out of the training, where no review has a label of a person.

The side of a review is in its hash, so it does not move when reviews are added; near-duplicates share a side.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from reviewtune.core.config.config import Config
from reviewtune.core.config.data import SplitConfig
from reviewtune.core.normalisation import normalise
from reviewtune.data.chat.chat_files import MIN_EXAMPLES
from reviewtune.data.reviews import COLUMNS
from reviewtune.data.sides.review_key import KEY, as_fraction
from reviewtune.data.splits import Splits, duplicate_groups, write_splits
from reviewtune.data.tables import read_rows
from reviewtune.deployment.rebase.answers_file import ANSWER, LABEL
from reviewtune.errors import DataError

COLUMNS_TO_LABEL = ("review_id", "text", "old_model", "new_model", "label")
HEX_DIGITS = 13  # the last ones: `weights` draws by the first


def held_out_sides(answers: pd.DataFrame, settings: SplitConfig) -> "pd.Series[str]":
    """The side of each answer, train, valid or test; one without a label has none.

    Nor has one that the old model could not label, if it would be a test review: there is nothing to compare.

    Args:
        answers: rows of the answers' file.
        settings: the shares, and the similarity of near-duplicates.
    """
    groups = duplicate_groups(answers["text"].tolist(), settings.similarity)
    numbers = answers[KEY].groupby(groups).transform("min").str[-HEX_DIGITS:].map(as_fraction)
    measured = settings.test + settings.validation * (1 - settings.test)
    sides = np.select([numbers < settings.test, numbers < measured], ["test", "valid"], default="train")
    is_usable = (answers[LABEL] != "") & ((sides != "test") | (answers[ANSWER] != ""))
    return pd.Series(sides, index=answers.index).where(is_usable, "")


def write_held_out(
    answers: pd.DataFrame, sides: "pd.Series[str]", config: Config, source: Path, folder: Path
) -> Splits:
    """Write the answers as splits. People may have corrected labels; of test reviews, what the old model said counts.

    Args:
        answers: rows of the answers' file that the new model is trained on or that are held out.
        sides: of the answers.
        config: of the project.
        source: the answers' file.
        folder: where to write.

    Raises:
        DataError: there are too few answers for all three sides.
    """
    labels = answers[LABEL].where(sides != "test", answers[ANSWER])
    table = answers.assign(**{LABEL: labels}).rename(columns={KEY: "review_id", LABEL: "label"})
    table = table.assign(label_second="", language=config.data.language)[list(COLUMNS)]
    parts = Splits(*(table[sides == side].reset_index(drop=True) for side in Splits._fields))
    _refuse_few(parts, source)
    write_splits(parts, folder, source=source, settings=config.split)
    return parts


def typed_rows(path: Path) -> pd.DataFrame:
    """The rows of the file of held-out reviews to which a person has given a label; none if there is no such file.

    Raises:
        DataError: the file cannot be read.
    """
    rows = read_rows(path, COLUMNS_TO_LABEL, hint="restore the file, or move it away") if path.exists() else ()
    cells = [row.cells for row in rows if normalise(row.cells["label"])]
    return pd.DataFrame(cells, columns=list(COLUMNS_TO_LABEL), dtype=str)


def to_label(answers: pd.DataFrame, typed: pd.DataFrame) -> pd.DataFrame:
    """The held-out reviews for a person to label, first those on which the models differ.

    Args:
        answers: columns review_id, text, old_model, new_model.
        typed: rows that have a label already, which no row loses.
    """
    labels = dict(zip(typed["review_id"], typed["label"], strict=True))
    table = answers.assign(label=[labels.get(review, "") for review in answers["review_id"]]).sort_values("review_id")
    differs = table["old_model"] != table["new_model"]
    no_longer_held_out = typed[~typed["review_id"].isin(table["review_id"])]
    return pd.concat([table[differs], table[~differs], no_longer_held_out])[list(COLUMNS_TO_LABEL)]


def _refuse_few(parts: Splits, source: Path) -> None:
    counts = {"to train with": len(parts.train), "for validation": len(parts.valid), "to compare on": len(parts.test)}
    if min(counts.values()) < MIN_EXAMPLES:
        shown = ", ".join(f"{count} {use}" for use, count in counts.items())
        raise DataError(
            f"{source}: too few answers to train with some and to hold others out ({shown}; {MIN_EXAMPLES} of each are "
            "needed): ask about more reviews"
        )
