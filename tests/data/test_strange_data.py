"""Three data sets as teams bring them: every reader understands them, and what it cannot use is named."""

import shutil
import sys
from pathlib import Path

import pytest

from reviewtune.commands.main import main
from reviewtune.core.config.data import DataConfig
from reviewtune.core.config.loading import compose_text, load_params
from reviewtune.data.reviews import prepare
from reviewtune.data.splits import split
from reviewtune.data_check.checks import format_
from reviewtune.data_check.labelled_file import data_for, read
from reviewtune.errors import DataError
from reviewtune.evaluation.ground_truth import read_ground_truth
from tests.support.strange_data import BETWEEN, StrangeData, app_reviews, hotel_feedback, support_tickets

USABLE = (hotel_feedback(), app_reviews(), support_tickets(two_labels=False))


@pytest.fixture
def place(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without results."""
    shutil.copytree(project / "conf", tmp_path / "conf")
    shutil.copy(project / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configured(data: StrangeData, place: Path) -> DataConfig:
    data.write(place)
    (place / "params.yaml").write_text(compose_text([f"data={data.name}"], place / "conf"), encoding="utf-8")
    return load_params(place / "params.yaml").data


@pytest.mark.parametrize("data", USABLE, ids=lambda data: data.name)
def test_all_readers_agree(data: StrangeData, place: Path) -> None:
    """Stage prepare, check-data and evaluate read the same reviews; every split has every label."""
    settings = configured(data, place)
    result = prepare(settings.path, settings)
    expected = [(review.text, review.label) for review in data.reviews]
    assert list(zip(result.reviews["text"], result.reviews["label"], strict=True)) == expected
    assert result.empty_rows == data.empty_rows
    assert result.reviews["label"].value_counts().to_dict() == data.labels

    file = read(settings.path, data_for(settings.path, None, place / "conf"))
    assert file.declared
    assert list(zip(file.table["text"], file.table["label"], strict=True)) == expected
    assert ("empty rows skipped" in format_(file).says) == bool(data.empty_rows)

    truth = read_ground_truth(settings.path, settings)
    assert truth.reviews["text"].tolist() == file.table["text"].tolist()
    assert truth.reviews["review_id"].tolist() == file.table["review_id"].tolist()

    parts = split(result.reviews, load_params(place / "params.yaml").split, train_size="all")
    assert {part["label"].nunique() for part in (parts.train, parts.test)} == {len(data.labels)}


def test_cells_with_two_labels_are_listed_by_every_reader(place: Path) -> None:
    data = support_tickets()
    settings = configured(data, place)
    lines = [5 + 17 * number for number in range(len(BETWEEN))]
    for reader in (prepare, read_ground_truth):
        with pytest.raises(DataError, match="is several labels of one review") as caught:
            reader(settings.path, settings)
        table = caught.value.details.splitlines()
        assert [int(line.split()[0]) for line in table[1:]] == lines
    undeclared = read(settings.path, None, text_column="message", label_column="topic")
    assert [fault.line for fault in undeclared.faults] == lines
    assert set(undeclared.labels) == set(data.labels)


def test_the_command_prints_the_table_of_faulty_rows(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"the parcel number {n} came {word},{word}\n" for n in range(8) for word in ("late", "broken"))
    Path("own.csv").write_text(f"text,label\n{rows}one more,late; broken\n,late\nand another,late / broken\n")
    monkeypatch.setattr(sys, "argv", ["reviewtune", "check-data", "own.csv"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert str(ended.value.code).startswith("error: own.csv: the pipeline would refuse this file: format: 3 of 19 rows")
    assert "\n" not in str(ended.value.code)
    table = capsys.readouterr().err.splitlines()[-4:]
    assert [line.split()[0] for line in table] == ["line", "18", "19", "20"]
    assert "late; broken" in table[1]
