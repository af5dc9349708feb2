"""`reviewtune init-data`: a first description that is right about the columns, and that the user completes."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from reviewtune.commands.main import main
from reviewtune.core.config.loading import compose_text
from reviewtune.data.first_config import FirstConfig, guess, to_yaml
from reviewtune.data.tables import read_table
from reviewtune.errors import ConfigError
from tests.support.strange_data import StrangeData, app_reviews, hotel_feedback, support_tickets

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    workspace = tmp_path / "project"
    shutil.copytree(project / "conf", workspace / "conf")
    shutil.copy(project / "dvc.yaml", workspace)
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reviewtune", "init-data", *map(str, words)])
        status: Any = 0
        try:
            main()
        except SystemExit as ended:
            status = ended.code
        out, err = capsys.readouterr()
        return (1, out, err + status) if isinstance(status, str) else (status or 0, out, err)

    return run


def test_a_column_of_sides_is_no_label(run: Run, tmp_path: Path) -> None:
    rows = [f"{n},the parcel {n * 7919} came {n} days late,{'TEST' if n % 4 == 0 else 'train'}" for n in range(40)]
    table = "\n".join(["nr,review,part,topic", *(f"{row},{'late' if n % 3 else 'wet'}" for n, row in enumerate(rows))])
    (tmp_path / "own.csv").write_text(table)
    status, _, err = run(tmp_path / "own.csv")
    assert status == 0, err
    columns = yaml.safe_load(Path("conf/data/own.yaml").read_text())["columns"]
    assert columns == {"text": "review", "label": "topic", "id": "nr", "split": "part"}


@pytest.mark.parametrize(
    ("data", "columns", "language", "slices"),
    [
        (hotel_feedback(), {"text": "Gästebewertung", "label": "Kategorie", "id": "Nr."}, "de", "possible: Note"),
        (app_reviews(), {"text": "리뷰", "label": "분류"}, "ko", "possible: 별점"),
        (support_tickets(), {"text": "message", "label": "topic", "id": "ticket"}, "en", "columns to score"),
        (support_tickets(two_labels=False), {"text": "message", "label": "topic", "id": "ticket"}, "en", "columns"),
    ],
    ids=["hotel", "app", "tickets with two labels", "tickets.xlsx"],
)
def test_the_columns_labels_and_language_of_three_teams(
    run: Run, tmp_path: Path, data: StrangeData, columns: dict[str, str], language: str, slices: str
) -> None:
    (tmp_path / data.file).write_bytes(data.content)
    status, out, err = run(tmp_path / data.file, "--name", "own")
    assert status == 0, err
    path = Path("conf/data/own.yaml")
    written = yaml.safe_load(path.read_text())
    assert (written["columns"], written["language"], written["slices"]) == (columns, language, [])
    assert set(written["labels"]) == set(data.labels)
    assert slices in path.read_text()
    assert Path(written["path"]).read_bytes() == data.content  # the copy in the project
    assert f"{len(data.labels)} labels" in out
    assert all(column in out for column in columns.values())
    with pytest.raises(
        ConfigError, match=rf"conf/data/own\.yaml line \d+: data\.labels\.{next(iter(written['labels']))}: wr"
    ):
        compose_text(["data=own"], Path("conf"))
    path.write_text(path.read_text().replace("TODO: what it means", "a meaning"))
    assert "a meaning" in compose_text(["data=own"], Path("conf"))


def test_counts_are_shown_and_cells_with_several_labels_are_left_out(run: Run, tmp_path: Path) -> None:
    data = support_tickets()
    (tmp_path / data.file).write_bytes(data.content)
    out = run(tmp_path / data.file)[1]
    assert "7 rows have several labels in one cell" in out
    text = Path("conf/data/tickets.yaml").read_text()
    assert "# 7 rows have several labels; choose one for each" in text
    assert "# 5 reviews" in text


def test_our_own_reviews_are_described_as_they_are(run: Run, project: Path) -> None:
    assert run(project / "data/raw/reviews_ko.csv")[0] == 1  # it is described already
    status, out, _ = run(project / "data/raw/reviews_ko.csv", "--name", "own")
    assert status == 0
    own, theirs = (yaml.safe_load(Path(f"conf/data/{name}.yaml").read_text()) for name in ("own", "reviews_ko"))
    assert own["columns"] == theirs["columns"]
    assert set(own["labels"]) == set(theirs["labels"])
    assert "possible slice" in out


def test_nothing_is_overwritten_and_a_file_of_the_project_stays_where_it_is(run: Run, tmp_path: Path) -> None:
    data = app_reviews()
    Path("lists").mkdir()
    Path("lists/a b.csv").write_bytes(data.content)
    out = run("lists/a b.csv")[1]
    assert yaml.safe_load(Path("conf/data/a_b.yaml").read_text())["path"] == "lists/a b.csv"
    assert "reviewtune check-data 'lists/a b.csv'" in out
    assert not Path("data").exists()
    assert "conf/data/a_b.yaml exists and is not overwritten" in run("lists/a b.csv")[2]
    (tmp_path / "a_c.csv").write_bytes(data.content)
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/a_c.csv").write_text("mine")
    assert "data/raw/a_c.csv exists and is not overwritten" in run(tmp_path / "a_c.csv")[2]
    assert not Path("conf/data/a_c.yaml").exists()
    assert "--name a/b: use letters" in run("lists/a b.csv", "--name", "a/b")[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "no column looks like reviews"),
        ("a,b\n" + "".join(f"the parcel is {n} days late,x{n}\n" for n in range(9)), "no column looks like labels"),
    ],
)
def test_what_cannot_be_guessed_can_be_said(run: Run, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    assert message in run(tmp_path / "x.csv")[2]
    assert run(tmp_path / "x.csv", "--text-column", "a", "--label-column", "b")[0] == 0
    assert "no column 'c'" in run(tmp_path / "x.csv", "--text-column", "c", "--name", "y")[2]


def test_what_is_not_a_file_with_content_is_refused(run: Run, tmp_path: Path) -> None:
    """A pipe can be read once only: its copy in data/raw would be empty."""
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "empty.csv").write_bytes(b"\xef\xbb\xbf\n\n")
    assert "pipe.csv: this command needs a file" in run(tmp_path / "pipe.csv")[2]
    assert "-: this command needs a file" in run("-")[2]
    assert f"{tmp_path}: this is a folder" in run(tmp_path)[2]
    assert "empty.csv: this file is empty; it needs a header" in run(tmp_path / "empty.csv")[2]
    shutil.copy(tmp_path / "empty.csv", "conf/data/here.yaml")
    assert "here.csv: no such file" in run("here.csv")[2]
    assert not Path("data").exists()


def test_what_to_do_next_names_the_projects_folder_from_another_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = app_reviews()
    (tmp_path / "a.csv").write_bytes(data.content)
    (tmp_path / "b.csv").write_bytes(data.content)
    assert "what each label means, then\n" in run(tmp_path / "a.csv")[1]
    monkeypatch.chdir("conf")
    assert f"what each label means, then in {tmp_path / 'project'}\n" in run(tmp_path / "b.csv")[1]


@pytest.mark.parametrize("file", ["2026-11.csv", "null.csv", "True.csv", "1e5.csv", "123.csv", "nan.csv"])
def test_a_name_is_never_read_as_a_number(run: Run, tmp_path: Path, file: str) -> None:
    """`dvc exp run -S data=2026_11` would look for 202611.yaml."""
    (tmp_path / file).write_bytes(app_reviews().content)
    status, _, err = run(tmp_path / file)
    assert status == 0, err
    (path,) = Path("conf/data").glob("data_*.yaml")
    path.write_text(path.read_text().replace("TODO: what it means", "a meaning"))
    assert f"name: {path.stem}" in compose_text([f"data={path.stem}"], Path("conf"))


def test_a_name_that_hydra_reads_as_a_value_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_bytes(app_reviews().content)
    for name in ("2026_11", "NULL", "1e5"):
        assert f"would be a value, not a name; use data_{name}" in run(tmp_path / "own.csv", "--name", name)[2]
    assert run(tmp_path / "own.csv", "--name", "2026_11_reviews")[0] == 0


def test_brackets_in_a_files_name_are_shown(run: Run) -> None:
    Path("reviews [old].csv").write_bytes(app_reviews().content)
    assert "Columns of reviews [old].csv" in run("reviews [old].csv")[1]


def test_odd_names_are_quoted_as_yaml_needs_it() -> None:
    labels = [
        "yes",
        "null",
        "1.0",
        "2026-11-29",
        "a: b",
        "a #b",
        "- x",
        '"q"',
        "it's",
        "{a}",
        "[a]",
        "*x",
        "배송",
        "x: ",
        "@a",
        "${a}",
    ]
    first = FirstConfig({"no": "text", "#": "label"}, {}, dict.fromkeys(labels, 9), 0, "en", ())
    written = yaml.safe_load(to_yaml(first, name="1", path="data/raw/a #1.csv"))
    assert list(written["labels"]) == labels
    assert written["columns"] == {"text": "no", "label": "#"}
    assert (written["name"], written["path"]) == ("1", "data/raw/a #1.csv")


def test_a_rating_or_a_channel_is_not_the_label(tmp_path: Path) -> None:
    rows = "".join(
        f"{n},https://shop.example/very/long/link/{n},The parcel {n} was late again,{n % 5},c{n % 2},t{n % 4}\n"
        for n in range(40)
    )
    (tmp_path / "x.csv").write_text(f"key,link,body,stars,channel,grund\n{rows}")
    first = guess(read_table(tmp_path / "x.csv"))
    assert (first.column("text"), first.column("label"), first.column("id")) == ("body", "grund", "key")
    assert first.slices == ("stars", "channel")
