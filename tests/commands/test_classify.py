"""`reviewtune classify` with a real server: the tables that people have in, the same rows with their issue out."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from reviewtune.commands.main import main
from reviewtune.data.tables import read_table
from tests.support.serving import ServerProcess
from tests.support.strange_data import app_reviews, hotel_feedback, support_tickets

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def workspace(project: Path, server: ServerProcess, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["provider"] |= {"base_url": server.base_url, "base_model": base}
    params["data"]["columns"]["text"] = "Gästebewertung"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "conf" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(workspace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error with the final message."""
        monkeypatch.setattr(
            sys, "argv", ["reviewtune", "classify", *words, *(() if "--model" in words else ("--base",))]
        )
        status: Any = 0
        try:
            main()
        except SystemExit as ended:
            status = ended.code
        out, err = capfd.readouterr()
        return (1, out, err + status) if isinstance(status, str) else (status or 0, out, err)

    return run


def test_the_column_of_the_configuration_is_used(run: Run, workspace: Path) -> None:
    """A German Excel's Unicode text: the user's other columns stay, the empty row is reported."""
    data = hotel_feedback()
    (workspace / data.new_file).write_bytes(data.new_content)
    status, out, err = run(data.new_file, "--out", "sorted.csv")
    table = read_table(workspace / "sorted.csv")
    assert status == 0, err
    assert table.columns == ("Nr.", "Gästebewertung", "issue")
    assert [row.cells["Gästebewertung"] for row in table.rows] == [review.text for review in data.reviews[::40]]
    assert "neu.csv: 1 empty row skipped" in err
    assert out.split()[0].isdigit()


def test_an_excel_file_in_and_out(run: Run, workspace: Path) -> None:
    data = support_tickets(two_labels=False)
    (workspace / data.new_file).write_bytes(data.new_content)
    assert run(data.new_file, "--out", "sorted.xlsx", "--text-column", "message")[0] == 0
    table = read_table(workspace / "sorted.xlsx")
    assert (table.kind, table.columns) == ("xlsx", ("ticket", "message", "issue"))
    assert table.rows[0].cells["ticket"] == "N-0"


def test_standard_input_and_output(run: Run, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single column needs no name. Only the table is on standard output."""
    data = app_reviews()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data.new_content)))
    status, out, err = run("-", "--out", "-")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == 0, err
    assert len(rows) == len(data.reviews[::12])
    assert list(rows[0]) == ["리뷰", "issue"]
    assert "classifying: " in err


def test_bad_rows_fail_alone(run: Run, workspace: Path) -> None:
    (workspace / "new.csv").write_text(f"text,n\nStill no parcel.,1\n{'late ' * 28_000},2\n\u200b,3\nBroken.,4\n")
    status, _, err = run("new.csv", "--out", "sorted.csv")
    assert status == 0, err
    issues = [bool(row.cells["issue"]) for row in read_table(workspace / "sorted.csv").rows]
    assert issues == [True, False, False, True]
    assert "line 4: the review is empty" in err
    assert "line 3: " in err


def test_outputs_and_columns_are_checked_before_the_first_request(run: Run, workspace: Path) -> None:
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params["provider"]["base_url"] = "http://127.0.0.1:9/v1"  # a request would fail with another message
    (workspace / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (workspace / "new.csv").write_text("Comment,Topic\nlate,x\n")
    (workspace / "done.csv").write_text("text,issue\nlate,x\n")
    (workspace / "ragged.csv").write_text("text,n\nlate,x\nlate\nlate,1,2\n")
    (workspace / "long.csv").write_text(f"text\n{'x' * 40_000}\n")
    for words, message in {
        ("new.csv", "--out", "no/such/x.csv"): "there is no folder",
        ("new.csv", "--out", "."): "this is a folder",
        ("new.csv", "--out", "./new.csv"): "new.csv: is the file to classify; choose another name for the output",
        ("new.csv", "--out", "x.csv", "--unsure-to", "new.csv"): "new.csv: is the file to classify",
        ("new.csv", "--out", "x.csv"): "no column 'Gästebewertung': it has Comment, Topic; name the column with",
        ("new.csv", "--out", "x.csv", "--text-column", "text"): "it has Comment, Topic; choose one of them",
        ("done.csv", "--out", "x.csv"): "there is a column 'issue' already",
        ("ragged.csv", "--out", "x.csv"): "ragged.csv line 3: 1 cell, the header has 2",
        ("long.csv", "--out", "x.xlsx"): "line 2 has a cell of 40000 characters, an .xlsx holds at most 32767",
    }.items():
        status, out, err = run(*words)
        assert (status, out) == (1, "")
        assert message in err
    assert not (workspace / "x.csv").exists()


def test_a_model_without_a_record_is_asked_as_a_base_model(run: Run, workspace: Path, base: str) -> None:
    """As `evaluate` asks it. The notes of the project's jobs and names that begin with `ft:` say what is fine-tuned."""
    (workspace / "new.csv").write_text("text\nStill no parcel.\nBroken.\n")
    run("new.csv", "--out", "base.csv", "--base")
    status, out, err = run("new.csv", "--out", "named.csv", "--model", base)
    assert status == 0, err
    assert f"{base} is not in models/finetuned.json: it is asked as a base model, with the labels" in out
    assert "2 of 2 answers" in out  # those of --base, from the cache
    assert (workspace / "named.csv").read_bytes() == (workspace / "base.csv").read_bytes()
    (workspace / ".work" / "finetune").mkdir(parents=True)
    (workspace / ".work" / "finetune" / "order.json").write_text(json.dumps({"job_id": "job-1", "models": [base]}))
    _, out, _ = run("new.csv", "--out", "tuned.csv", "--model", base)
    assert f"{base} is not in models/finetuned.json: it is asked as a fine-tuned model, with prompt " in out
    assert "answers" not in out


def test_the_user_can_say_that_a_model_is_fine_tuned(run: Run, workspace: Path, base: str) -> None:
    """An exported fine-tune has any name, and no job of this project made it under that name."""
    (workspace / "new.csv").write_text("text\nStill no parcel.\nBroken.\n")
    status, out, err = run("new.csv", "--out", "tuned.csv", "--model", base, "--finetuned")
    assert status == 0, err
    assert f"{base} is not in models/finetuned.json: it is asked as a fine-tuned model, with prompt " in out
    for wrong in (("--finetuned",), ("--model", base, "--finetuned", "--base")):
        status, _, err = run("new.csv", "--out", "x.csv", *wrong)
        assert status == 1
        assert "--finetuned needs --model NAME and does not go with --base" in err


def test_any_model_can_be_asked_as_a_base_model(run: Run, workspace: Path) -> None:
    (workspace / "new.csv").write_text("text\nStill no parcel.\n")
    status, _, err = run("new.csv", "--out", "x.csv", "--model", "no-such-model", "--base")
    assert status == 1
    assert "no-such-model" in err
