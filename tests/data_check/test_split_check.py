"""check-data on scarce labels: what the pipeline and its arms will do with them is known beforehand."""

import os
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from reviewtune.commands.main import app
from reviewtune.core.config.config import Config
from reviewtune.data.tables import to_bytes
from reviewtune.data_check.examine import examine
from reviewtune.data_check.facts import SplitFacts
from reviewtune.data_check.html_report import page
from reviewtune.data_check.labelled_file import read
from reviewtune.data_check.split_check import splits
from reviewtune.errors import DataError
from tests.support.unbalanced import LABELS, for_tickets, tickets


def saved(table: pd.DataFrame, folder: Path) -> Path:
    path = folder / "tickets.csv"
    table.to_csv(path, index=False)
    return path


def test_what_scarce_labels_cannot_do_is_reported(tmp_path: Path, config: Config) -> None:
    result = splits(read(saved(tickets(), tmp_path), None), for_tickets(config))
    assert result.level == "notice"
    assert result.says.startswith("408 reviews for training, 103 for validation, 171 for testing; 15 of 25 labels have")
    assert "arms.few_shot.shots is 4, but 10 of 25 labels have fewer training reviews" in result.says
    assert isinstance(result.facts, SplitFacts)
    parts = (result.facts.train, result.facts.valid, result.facts.test)
    assert [part[LABELS[-1]] for part in parts] == [3, 1, 1]


@pytest.mark.filterwarnings("error::UserWarning")
def test_labels_of_four_reviews_are_cross_validated_and_split(tmp_path: Path, config: Config) -> None:
    """All checks, on labels with 4 to 30 reviews."""
    counts = {label: max(4, round(30 * 0.8**rank)) for rank, label in enumerate(LABELS[:8])}
    own = for_tickets(config, counts)
    check = examine(read(saved(tickets(counts), tmp_path), None), reports=tmp_path / "none", config=own)
    levels = {result.name: result.level for result in check.results}
    assert levels["splits"] == "notice"
    assert levels["label_errors"] in ("fine", "notice")
    assert check.problems == []
    assert "Splits and arms" in page(check)


def test_an_excel_file_is_checked_as_a_csv_is(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "tickets.xlsx"
    rows = [{"text": str(text), "label": str(label)} for text, label in tickets()[["text", "label"]].to_numpy()]
    path.write_bytes(to_bytes(["text", "label"], rows, path))
    check = examine(read(path, None), reports=tmp_path / "none", config=for_tickets(config))
    as_csv = splits(read(saved(tickets(), tmp_path), None), for_tickets(config))
    assert [result.says for result in check.results if result.name == "splits"] == [as_csv.says]


def test_standard_input_and_pipes_are_refused(tmp_path: Path) -> None:
    """The file is read more than once."""
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", Path("-")):
        with pytest.raises(DataError, match="this command needs a file"):
            read(path, None)


def test_what_cannot_be_split_is_a_problem(tmp_path: Path, config: Config) -> None:
    counts = dict.fromkeys(LABELS, 5)
    result = splits(read(saved(tickets(counts), tmp_path), None), for_tickets(config))
    assert result.level == "problem"
    assert "split.validation=0.2 of 93 distinct reviews is 19" in result.says


def test_too_few_reviews_for_a_chat_file_are_a_problem(tmp_path: Path, config: Config) -> None:
    """What stage format refuses, with what it takes to pass."""
    counts = dict.fromkeys(LABELS[:4], 10)
    file, own = read(saved(tickets(counts), tmp_path), None), for_tickets(config, counts)
    result = splits(file, own)
    assert result.level == "problem"
    assert "6 for validation, 10 for testing" in result.says
    assert "needed: label about 27 more reviews, or raise split.validation (0.2)" in result.says
    own = own.model_copy(update={"split": own.split.model_copy(update={"validation": 0.4})})
    assert splits(file, own).level == "notice"
    own = own.model_copy(update={"data": own.data.model_copy(update={"train_size": 9})})
    assert "at least 10 reviews for training are needed: raise data.train_size (9)" in splits(file, own).says


def test_the_command_refuses_what_the_split_would_refuse(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    ran = CliRunner().invoke(app, ["check-data", str(saved(tickets(dict.fromkeys(LABELS, 5)), tmp_path))])
    assert isinstance(ran.exception, DataError)
    assert "splits and arms: split.validation=0.2" in str(ran.exception)


@pytest.mark.parametrize(("policy", "level"), [("refuse", "problem"), ("majority", "notice"), ("drop", "notice")])
def test_conflicts_are_a_problem_only_where_the_pipeline_refuses_them(
    tmp_path: Path, config: Config, policy: str, level: str
) -> None:
    rows = tickets(dict.fromkeys(LABELS[:3], 12))
    twice = rows.iloc[:1].assign(label=LABELS[1])
    own = for_tickets(config, dict.fromkeys(LABELS[:3], 12))
    own = own.model_copy(update={"data": own.data.model_copy(update={"conflicts": policy})})
    file = read(saved(pd.concat([rows, twice]), tmp_path), None)
    results = {result.name: result for result in examine(file, reports=tmp_path / "none", config=own).results}
    assert results["conflicts"].level == level


def test_what_stage_prepare_refuses_is_a_problem(tmp_path: Path, config: Config) -> None:
    own = for_tickets(config)
    columns = own.data.columns.model_copy(update={"id": "id", "second_label": None})
    rows = tickets().assign(id="A1")
    described = own.data.model_copy(update={"columns": columns})
    path = saved(rows, tmp_path)
    result = splits(read(path, described), own.model_copy(update={"data": described}))
    assert (result.level, "several rows have the review id 'A1'" in result.says) == ("problem", True)
    sliced = described.model_copy(update={"slices": ("region",)})
    result = splits(read(path, sliced), own.model_copy(update={"data": sliced}))
    assert (result.level, "region" in result.says) == ("problem", True)


def test_a_file_without_any_usable_review_is_a_problem(tmp_path: Path, config: Config) -> None:
    rows = pd.DataFrame({"text": ["Late", "Late"], "label": ["late", "broken"]})
    result = splits(read(saved(rows, tmp_path), None), for_tickets(config))
    assert (result.level, result.says.partition(":")[0]) == ("problem", "no review is left to split")
