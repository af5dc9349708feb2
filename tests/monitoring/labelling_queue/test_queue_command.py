"""`reviewtune queue` and `reviewtune queue merge` as a person runs them, with a real champion and MLflow store."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook

from tests.deployment.conftest import reviewtune
from tests.monitoring.labelling_queue.conftest import new_reviews
from tests.support.clones import Clone

NEW = new_reviews(120)
LABEL_OF = dict(NEW)


class Asked:
    """A project in which a queue was made."""

    def __init__(self, clone: Clone, said: str) -> None:
        self.clone, self.said = clone, said

    def rows(self) -> list[dict[str, str]]:
        with (self.clone.folder / "to_label.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def record(self) -> Any:
        (path,) = (self.clone.folder / "data" / "queues").glob("*.json")
        return json.loads(path.read_text())


def write_rows(path: Path, rows: list[dict[str, str]], delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def filled(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{**row, "label": LABEL_OF[row["text"]]} for row in rows]


@pytest.fixture(scope="module")
def asked(promoted: Clone) -> Asked:
    """120 new reviews, one of them five times, and one that is a test review."""
    test = promoted.folder / "data" / "splits" / "test.csv"
    with test.open(newline="") as file:
        (first, *_) = csv.DictReader(file)
    texts = [*(text for text, _ in NEW), *[NEW[0][0]] * 4, first["text"], ""]
    products = [{"text": text, "product": f"thing {number}"} for number, text in enumerate(texts)]
    write_rows(promoted.folder / "new.csv", products)
    outs = ("--out", "to_label.csv", "--out", "to_label.xlsx", "--out", "to_label.json")
    return Asked(promoted, reviewtune(promoted, "queue", "new.csv", "--size", "20", *outs))


def test_the_queue_has_a_sample_new_topics_and_the_least_sure(asked: Asked) -> None:
    rows, record = asked.rows(), asked.record()
    assert "20 reviews to label of 124" in asked.said
    reasons = [row["why"].partition(": ")[0] for row in rows]
    assert set(reasons) == {"audit", "new topic", "least sure"}
    assert reasons.count("new topic") <= 5, "a quarter of the queue at most"
    assert sum(row["weight"] for row in record["rows"]) == 8, "40 % of the queue are a random sample"
    assert len({row["text"] for row in rows}) == 20
    least = [float(row["confidence"]) for row in rows if row["why"] == "least sure"]
    assert max(least) <= sorted(float(row["confidence"]) for row in rows)[15]
    assert all(row["predicted"] for row in rows)
    assert not any(row["label"] for row in rows)
    assert "review left out: in the raw data already" in asked.said


def test_the_workbook_offers_the_labels(asked: Asked) -> None:
    book = load_workbook(asked.clone.folder / "to_label.xlsx")
    sheet = book.worksheets[0]
    header = [cell.value for cell in sheet[1]]
    (offered,) = sheet.data_validations.dataValidation
    column = "ABCDEF"[header.index("label")]
    assert str(offered.sqref) == f"{column}2:{column}21"
    assert offered.type == "list"
    hidden, cells = offered.formula1.split("!")
    labels = [cell.value for (cell,) in book[hidden.strip("'")][cells.replace("$", "")]]
    assert "delivery_delay" in labels
    assert len(labels) == 11
    assert book[hidden.strip("'")].sheet_state == "hidden"


def test_label_studio_gets_tasks_with_predictions(asked: Asked) -> None:
    tasks = json.loads((asked.clone.folder / "to_label.json").read_text())
    rows = {row["task"]: row for row in asked.rows()}
    assert {task["data"]["task"] for task in tasks} == set(rows)
    for task in tasks:
        row = rows[task["data"]["task"]]
        (prediction,) = task["predictions"]
        assert task["data"]["text"] == row["text"]
        assert prediction["result"][0]["value"]["choices"] == [row["predicted"]]
        assert prediction["score"] == pytest.approx(float(row["confidence"]), abs=1e-4)
    assert '<Choice value="delivery_delay"/>' in (asked.clone.folder / "to_label.xml").read_text()


def test_files_are_not_replaced(asked: Asked) -> None:
    said = reviewtune(asked.clone, "queue", "new.csv", "--out", "to_label.csv", ok=False)
    assert said.startswith("error: --out to_label.csv: exists already and may hold labels")
    assert len(said.splitlines()) == 1


def test_a_merge_appends_and_measures_and_a_second_one_changes_nothing(asked: Asked, tmp_path: Path) -> None:
    clone = asked.clone.copy(tmp_path / "project")
    clone.env["PYTHONPATH"] = str(clone.folder)
    before = (clone.folder / "data/raw/reviews_en.csv").read_text().splitlines()
    rows = filled(asked.rows())
    half, none = rows[:-2], [{**row, "label": ""} for row in rows[-2:]]
    odd = [dict(reversed(row.items())) for row in [*half, *none]]  # another order of columns, semicolons
    for row in odd:
        row["confidence"] = row["confidence"].replace(".", ",")
    write_rows(clone.folder / "to_label.csv", odd, delimiter=";")
    said = reviewtune(clone, "queue", "merge", "to_label.csv")
    raw = (clone.folder / "data/raw/reviews_en.csv").read_text().splitlines()
    assert "18 reviews appended to data/raw/reviews_en.csv" in said
    assert "2 rows without a label: line 20, 21" in said
    assert "next: `reviewtune retrain`" in said
    assert raw[0] == f"{before[0]},labelled_on,label_source"
    assert raw[1 : len(before)] == [f"{line},," for line in before[1:]]
    assert len(raw) == len(before) + 18
    _check_audit(clone, asked)
    again = reviewtune(clone, "queue", "merge", "to_label.csv")
    assert "0 reviews appended" in again
    assert "18 reviews in data/raw/reviews_en.csv already" in again
    assert (clone.folder / "data/raw/reviews_en.csv").read_text().splitlines() == raw
    write_rows(clone.folder / "to_label.csv", rows)
    reviewtune(clone, "queue", "merge", "to_label.csv")
    (run,) = clone.runs("tags.kind = 'audit'")
    assert run.data.metrics["audit_labelled"] == run.data.metrics["audit_asked"]
    clone.run("python", "stages/prepare.py")
    labeled = (clone.folder / "data/labeled.csv").read_text()
    assert all(row["text"] in labeled for row in rows if '"' not in row["text"])


def _check_audit(clone: Clone, asked: Asked) -> None:
    """The run has the weighted share of right predictions in the sample, and leads to the champion."""
    record = json.loads(next((clone.folder / "data/queues").glob("*.json")).read_text())
    done = [row for row in record["rows"] if row["weight"] and row["label"]]
    right = sum(row["weight"] for row in done if row["predicted"] == row["label"])
    (run,) = clone.runs("tags.kind = 'audit'")
    assert run.data.metrics["audit_accuracy"] == pytest.approx(right / sum(row["weight"] for row in done))
    assert run.data.metrics["audit_accuracy_low"] < run.data.metrics["audit_accuracy_high"]
    assert run.data.tags["registered_version"] == "1"
    evaluation = clone.json("reports/arms/linear/run.json")["mlflow_run_id"]
    assert run.data.tags["evaluation_run"] == evaluation


def test_labels_come_back_from_label_studio(asked: Asked, tmp_path: Path) -> None:
    clone = asked.clone.copy(tmp_path / "project")
    clone.env["PYTHONPATH"] = str(clone.folder)
    tasks = json.loads((clone.folder / "to_label.json").read_text())
    for number, task in enumerate(tasks):
        value = {"choices": [LABEL_OF[task["data"]["text"]]]}
        result = [{"from_name": "label", "to_name": "text", "type": "choices", "value": value}]
        task["annotations"] = [{"result": result if number else [], "was_cancelled": not number}]
    (clone.folder / "export.json").write_text(json.dumps(tasks))
    said = reviewtune(clone, "queue", "merge", "export.json", "--keep-columns")
    assert "19 reviews appended" in said
    diff = clone.git("diff", "--numstat", "data/raw/reviews_en.csv")
    assert diff.split()[:2] == ["19", "0"], "added lines only"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["queue", "new.csv", "--out", "x.txt"], "its name must end in .csv, .xlsx, .json"),
        (["queue", "--size", "5", "--audit", "9", "new.csv", "--out", "x.csv"], "--audit 9 is more than --size 5"),
        (["queue", "./merge", "--out", "x.csv"], "merge: no such file"),
        (["queue", "merge", "none.csv"], "none.csv: no such file"),
        (["queue", "merge", "to_label.csv"], "none of its 20 rows has a label"),
        (["queue", "merge", "new.csv"], "no column 'label'"),
    ],
)
def test_what_cannot_be_done_is_one_line(asked: Asked, words: list[str], message: str) -> None:
    said = reviewtune(asked.clone, *words, ok=False)
    assert said.startswith("error: "), said
    assert message in said
    assert len(said.splitlines()) == 1
