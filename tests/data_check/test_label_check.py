"""check-data on the labels: a column of free text is told from labels, however many of both there are."""

from pathlib import Path

import pandas as pd

from reviewtune.data_check import label_check
from reviewtune.data_check.labelled_file import LabelledFile, read

WORDS = {"late": "parcel weeks waiting", "broken": "cracked dented shattered", "fine": "lovely great happy"}


def opened(table: pd.DataFrame, folder: Path) -> LabelledFile:
    path = folder / "own.csv"
    table.to_csv(path, index=False)
    return read(path, None)


def test_a_column_of_texts_is_not_taken_for_labels(tmp_path: Path) -> None:
    """It would take hours to compare its values with each other."""
    texts = [f"{words} {n}" for n in range(2_000) for words in WORDS.values()]
    found = label_check.labels(opened(pd.DataFrame({"text": texts, "label": texts}), tmp_path))
    assert found.level == "problem"
    assert found.says == "6,000 different values in 6,000 rows: this does not look like a label column"
    assert "--label-column" in found.do


def test_many_labels_with_enough_reviews_each_are_labels(tmp_path: Path) -> None:
    labels = [f"intent {n}" for n in range(151) for _ in range(10)]
    texts = [f"{words} {n}" for n in range(504) for words in WORDS.values()][: len(labels)]
    found = label_check.labels(opened(pd.DataFrame({"text": texts, "label": labels}), tmp_path))
    assert (found.level, found.says) == ("fine", "151 labels, 10 reviews each")
