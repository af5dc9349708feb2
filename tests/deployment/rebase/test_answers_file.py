"""The file of an old model's answers is read by the rules of all tables, since people correct it."""

from pathlib import Path

import pandas as pd
import pytest

from reviewtune.deployment.rebase.answers_file import COLUMNS, AnswersFile
from reviewtune.deployment.rebase.weights import weigh
from reviewtune.errors import DataError

ROW = dict.fromkeys(COLUMNS, "") | {"text": "Late, again", "label": "late", "confidence": "0.9000"}


@pytest.fixture
def file(tmp_path: Path) -> AnswersFile:
    return AnswersFile(tmp_path / "answers.csv", "teacher old (openai)", ("late", "배송"))


def test_what_is_written_is_read_also_after_excel_saved_it(file: AnswersFile) -> None:
    rows = pd.DataFrame([{**ROW, COLUMNS[0]: "a1"}, {**ROW, COLUMNS[0]: "b2", "label": "배송"}])
    file.write(rows)
    pd.testing.assert_frame_equal(file.read(), rows[list(COLUMNS)], check_dtype=False)
    file.path.write_bytes(rows.to_csv(index=False, sep=";").encode("utf-16"))
    pd.testing.assert_frame_equal(file.read(), rows[list(COLUMNS)], check_dtype=False)


def test_no_file_has_no_rows(file: AnswersFile) -> None:
    assert list(file.read().columns) == list(COLUMNS)
    assert file.read().empty


def test_an_unknown_label_and_a_missing_column_are_one_line(file: AnswersFile) -> None:
    file.write(pd.DataFrame([ROW | {"label": "lat"}]))
    with pytest.raises(DataError, match=r"answers.csv line 2: 'lat' is not one of 2 labels; correct it, or leave it"):
        file.read()
    file.path.write_text("text,label\nx,late\n")
    with pytest.raises(DataError, match="restore the file, or delete it to ask again"):
        file.read()


def test_a_corrected_label_counts_as_one_of_a_person(file: AnswersFile) -> None:
    """However unsure the model was; what the model itself was unsure about is left out."""
    unsure = {**ROW, "confidence": "0.2000", "model_label": "late"}
    rows = [{**unsure, COLUMNS[0]: f"{number:064x}"} for number in range(40)]
    rows += [{**unsure, COLUMNS[0]: f"{number:064x}", "label": "배송", "text": f"{number}"} for number in range(40, 80)]
    file.write(pd.DataFrame(rows))
    taken = weigh(file.read(), None)
    assert sorted(taken.rows["text"]) == sorted(map(str, range(40, 80)))
    assert (taken.too_unsure, taken.drawn_out) == (40, 0)


def test_a_file_of_an_older_version_is_read(file: AnswersFile) -> None:
    file.write(pd.DataFrame([{**ROW, COLUMNS[0]: "a1", "model_label": "late"}]))
    new = file.read()
    file.path.write_text(new.drop(columns="model_label").to_csv(index=False))
    pd.testing.assert_frame_equal(file.read(), new)
