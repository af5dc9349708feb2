"""Merging what people and spreadsheet programs make of a queue: nothing lost, nothing doubled, all faults named."""

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reviewtune.core.config.config import Config
from reviewtune.data.reviews import write_reviews
from reviewtune.data.sides.frozen_file import write_frozen
from reviewtune.data.sides.review_key import review_key
from reviewtune.data.tables import to_bytes
from reviewtune.errors import DataError
from reviewtune.evaluation.metrics.significance import proportion, weighted_proportion
from reviewtune.monitoring.labelling_queue.audit import audited
from reviewtune.monitoring.labelling_queue.merge import Merged, QueueAudit, merge
from reviewtune.monitoring.labelling_queue.queue_record import (
    QueuedReview,
    QueueRecord,
    read_records,
    record_path,
    write_record,
)
from tests.support.tracking import SETTINGS, stored

LABELS = ("delivery_delay", "damaged_item", "no_issue")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven")
TEXTS = [f"review number {number} says something else" for number in NUMBERS]
RAW = "review_id,text,label\nr1,It arrived two weeks late,delivery_delay\nr2,Broken glass in the box,damaged_item\n"
QUEUE = "q0a1b2c3"


class Project:
    """A raw CSV and a queue of eight reviews. Four are a random sample; all were predicted as delivery_delay."""

    def __init__(self, root: Path, config: Config) -> None:
        self.root, self.raw, self.file = root, root / "raw.csv", root / "to_label.csv"
        columns = config.data.columns.model_copy(update={"second_label": None})
        data = config.data.model_copy(update={"path": Path("raw.csv"), "columns": columns, "slices": ()})
        self.config = config.model_copy(update={"data": data, "tracking": SETTINGS})
        (root / "dvc.yaml").write_text("")
        self.raw.write_text(RAW)
        write_record(self.record(), root)

    def record(self) -> QueueRecord:
        rows = [
            QueuedReview(
                row=number,
                key=review_key(text, "en"),
                line=number + 1,
                id=f"new-{number}",
                cells={},
                predicted="delivery_delay",
                confidence=0.5,
                why="audit" if number <= 4 else "least sure",
                weight=1 if number <= 4 else 0,
            )
            for number, text in enumerate(TEXTS, start=1)
        ]
        return QueueRecord(
            queue=QUEUE,
            made_on="2026-11-29",
            data="reviews_en",
            file="new.csv",
            file_sha256="0" * 64,
            reviews=100,
            registered_name="reviewtune-reviews_en",
            registered_version=None,
            model="linear",
            rows=tuple(rows),
        )

    def fill(self, labels: dict[int, str], **changes: Any) -> None:
        rows = [
            {"task": f"{QUEUE}-{number}", "text": text, "label": labels.get(number, ""), "why": "?"}
            for number, text in enumerate(TEXTS, start=1)
        ]
        self.write(rows, **changes)

    def write(self, rows: list[dict[str, str]], delimiter: str = ",", encoding: str = "utf-8") -> None:
        with self.file.open("w", newline="", encoding=encoding) as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)

    def merge(self) -> Merged:
        return merge(self.file, self.config, self.root)

    def rows(self) -> list[dict[str, str]]:
        with self.raw.open(newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def project(tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, config)


def test_new_rows_have_ids_date_and_source(project: Project) -> None:
    project.raw.write_text(RAW.replace("r2", "new-2"))
    project.fill({1: "no_issue", 2: "no_issue", 8: "damaged_item"})
    merged = project.merge()
    old, added = project.rows()[:2], project.rows()[2:]
    assert [row["labelled_on"] for row in old] == ["", ""]
    assert [row["label"] for row in added] == ["no_issue", "no_issue", "damaged_item"]
    assert added[0]["review_id"] == "new-1"
    assert added[1]["review_id"].startswith("q-"), "new-2 is the id of another review"
    assert added[0]["label_source"] == f"{QUEUE} audit"
    assert added[2]["label_source"] == f"{QUEUE} least sure"
    assert merged.new_columns == ("labelled_on", "label_source")
    assert merged.checked.unlabelled == [4, 5, 6, 7, 8]


def test_a_merge_that_was_killed_after_the_raw_data_is_continued(project: Project) -> None:
    """The queue's record and MLflow know nothing of the first merge."""
    record = record_path(project.root, QUEUE)
    before = record.read_bytes()
    project.fill({1: "delivery_delay", 2: "no_issue", 5: "no_issue"})
    project.merge()
    content, after = project.raw.read_bytes(), json.loads(record.read_text())
    record.write_bytes(before)
    for run in stored().search_runs(["1"], "tags.kind = 'audit'"):
        stored().delete_run(run.info.run_id)
    merged = project.merge()
    assert project.raw.read_bytes() == content
    assert json.loads(record.read_text()) == after
    (audit,) = merged.audits
    assert (audit.audit.accuracy.value, audit.audit.labelled, audit.audit.asked) == (0.5, 2, 4)
    (run,) = stored().search_runs(["1"], "tags.kind = 'audit'")
    assert run.info.run_id == audit.published.run_id
    assert run.data.metrics["audit_accuracy"] == 0.5


def test_a_later_merge_continues_the_run(project: Project) -> None:
    project.fill({1: "delivery_delay", 2: "no_issue"})
    (first,) = project.merge().audits
    project.fill({1: "delivery_delay", 2: "no_issue", 3: "delivery_delay", 4: "delivery_delay"})
    (second,) = project.merge().audits
    assert second.published.run_id == first.published.run_id
    run = stored().get_run(first.published.run_id)
    expected = proportion(3, 4)
    assert run.data.metrics["audit_accuracy"] == 0.75
    assert run.data.metrics["audit_accuracy_low"] == pytest.approx(expected.low)
    assert run.info.status == "FINISHED"


def test_late_labels_of_an_older_queue_do_not_replace_the_audit_of_a_newer_one(project: Project) -> None:
    """Each queue keeps its own run; the champion's version has the audit of the newest queue."""
    project.fill({1: "no_issue"})
    project.merge()  # makes the store
    client, name = stored(), "reviewtune-reviews_en"
    client.create_registered_model(name)
    client.create_model_version(name, source="file:///nowhere", tags={})
    older = project.record().model_copy(update={"registered_version": "1", "made_on": "2026-11-01"})
    newer = older.model_copy(update={"queue": "q9f9f9f9f", "made_on": "2026-11-29"})
    for record, number in ((older, 1), (newer, 2)):
        rows = [row for row in record.rows if row.row == number]
        write_record(record.model_copy(update={"rows": tuple(rows)}), project.root)

    def merged(number: int, label: str) -> QueueAudit:
        project.fill({number: label})
        return project.merge().audits[-1]

    assert merged(1, "no_issue").published.newer == ""
    last = merged(2, "delivery_delay")
    assert last.published.newer == ""
    again = merged(1, "no_issue")
    assert again.published.newer == "2026-11-29"
    tags = client.get_model_version(name, "1").tags
    assert tags["audit_run"] == last.published.run_id != again.published.run_id
    assert tags["audit"].endswith("queue q9f9f9f9f")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"label": "no issue"}, "label 'no issue' is not one of 11 labels; did you mean 'no_issue'?"),
        ({"label": "no_issue, damaged_item"}, "is several labels of one review"),
        (
            {"text": "29.11.2026", "label": "no_issue"},
            "its text is not the one that was asked; copy it again from line 2",
        ),
        ({"text": "", "label": "no_issue"}, "its text is gone"),
        ({"task": "", "text": "a review of my own", "label": "no_issue"}, "no queue of this project asked for it"),
    ],
)
def test_a_faulty_row_is_named_and_the_others_are_merged(project: Project, row: dict[str, str], message: str) -> None:
    usual = {"task": f"{QUEUE}-1", "text": TEXTS[0], "label": ""}
    project.write([{**usual, **row}, {"task": "", "text": TEXTS[1].upper() + "!!", "label": "no_issue"}])
    merged = project.merge()
    (fault,) = merged.checked.problems
    assert fault.line == 2
    assert message in fault.message
    assert [one.text for one in merged.checked.new] == [TEXTS[1].upper() + "!!"]
    assert len(project.rows()) == 3


def test_labels_for_another_data_set_are_not_merged(project: Project) -> None:
    """Even if a queue of this data set asked for the same text."""
    other = project.record().model_copy(update={"queue": "q9f9f9f9f", "data": "reviews_ko"})
    write_record(other, project.root)
    rows = [{"task": f"{queue}-1", "text": TEXTS[0], "label": "no_issue"} for queue in ("q9f9f9f9f", QUEUE)]
    project.write([*rows, {"task": "", "text": TEXTS[1], "label": "no_issue"}])
    merged = project.merge()
    (fault,) = merged.checked.problems
    assert fault.line == 2
    assert "data set reviews_ko, but params.yaml describes reviews_en" in fault.message
    assert [(one.text, one.queue) for one in merged.checked.new] == [(TEXTS[0], QUEUE), (TEXTS[1], QUEUE)]


def test_two_labels_of_a_review_are_a_conflict(project: Project) -> None:
    row = {"task": f"{QUEUE}-1", "text": TEXTS[0]}
    same = {"task": f"{QUEUE}-2", "text": TEXTS[1], "label": "no_issue"}
    project.write([{**row, "label": "no_issue"}, {**row, "label": "damaged_item"}, same, same])
    merged = project.merge()
    assert [fault.line for fault in merged.checked.problems] == [2, 3]
    assert "line 2 'no_issue', line 3 'damaged_item'" in merged.checked.problems[0].message
    assert len(merged.checked.new) == 1


def test_another_label_than_in_the_raw_data_is_a_conflict(project: Project) -> None:
    project.fill({1: "no_issue"})
    project.merge()
    project.fill({1: "damaged_item", 2: "no_issue"})
    merged = project.merge()
    (fault,) = merged.checked.problems
    assert fault.message.startswith("labelled 'no_issue' in line 4 of the raw data already")
    assert len(merged.checked.new) == 1


def test_test_reviews_are_refused_by_row(project: Project) -> None:
    """One that was frozen and is gone from the data, and a near-duplicate of one in the data."""
    raw = f"{RAW}r3,{TEXTS[1]} sir,no_issue\n"
    project.raw.write_text(raw)
    path = project.root / "data" / "frozen_splits.csv"
    write_frozen({review_key(TEXTS[0], "en"): "test", review_key(f"{TEXTS[1]} sir", "en"): "test"}, path)
    project.fill({1: "no_issue", 2: "no_issue", 3: "no_issue"})
    merged = project.merge()
    assert [fault.line for fault in merged.checked.problems] == [2, 3]
    assert all("of the test split" in fault.message for fault in merged.checked.problems)
    assert [one.text for one in merged.checked.new] == [TEXTS[2]]


def test_reviews_of_a_test_split_that_is_not_frozen_are_refused_too(project: Project) -> None:
    test = pd.DataFrame({"review_id": ["t1"], "text": [TEXTS[2]], "label": ["no_issue"]})
    (project.root / "data" / "splits").mkdir()
    write_reviews(test, project.root / "data" / "splits" / "test.csv")
    project.fill({3: "damaged_item", 8: "no_issue"})
    merged = project.merge()
    (fault,) = merged.checked.problems
    assert (fault.line, "a review of the test split" in fault.message) == (4, True)
    assert [one.text for one in merged.checked.new] == [TEXTS[7]]


def test_what_is_no_filled_queue_is_refused(project: Project) -> None:
    project.fill({})
    with pytest.raises(DataError, match="none of its 8 rows has a label; fill in column label first"):
        project.merge()
    project.write([{"text": "a review of my own", "label": "no_issue"}])
    with pytest.raises(DataError, match="none of its rows was asked for by a queue of this project"):
        project.merge()
    assert project.raw.read_text() == RAW


def test_what_a_spreadsheet_program_makes_of_the_file_is_merged(project: Project) -> None:
    """Columns in another order, semicolons, a byte order mark, decimal commas, dates in its own form, rows sorted."""
    labels = {1: "no_issue", 5: "damaged_item"}
    rows = [
        {
            "date": "29.11.2026", "confidence": "0,5", "label": f" {labels.get(number, '')} ", "text": text, "why": "",
            "task": f"{QUEUE}-{number}", "": "",
        }
        for number, text in enumerate(TEXTS, start=1)
    ]  # fmt: skip
    project.write(rows[::-1], delimiter=";", encoding="utf-8-sig")
    merged = project.merge()
    assert merged.checked.problems == []
    assert {row["text"]: row["label"] for row in project.rows()[2:]} == {TEXTS[0]: "no_issue", TEXTS[4]: "damaged_item"}
    assert [row["labelled_on"][:2] for row in project.rows()[2:]] == ["20", "20"], "the date of the merge"


def test_raw_data_in_a_workbook_are_refused_with_a_way_out_that_works(project: Project) -> None:
    columns, *cells = list(csv.reader(RAW.splitlines()))
    workbook = project.root / "raw.xlsx"
    workbook.write_bytes(to_bytes(columns, [dict(zip(columns, row, strict=True)) for row in cells], workbook))
    content, as_csv = workbook.read_bytes(), project.config
    data = as_csv.data.model_copy(update={"path": Path("raw.xlsx")})
    project.config = as_csv.model_copy(update={"data": data})
    project.fill({1: "no_issue"})
    with pytest.raises(DataError, match=r"raw\.xlsx: labels are appended to a CSV only.*save it as CSV UTF-8, name"):
        project.merge()
    assert workbook.read_bytes() == content
    project.config = as_csv  # which conf/data names now
    assert [one.label for one in project.merge().checked.new] == ["no_issue"]


def test_label_studio_exports_are_read(project: Project) -> None:
    def annotation(*labels: str) -> dict[str, Any]:
        value = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": list(labels)}}
        return {"id": 1, "was_cancelled": False, "result": [value]}

    def task(number: int, *annotations: dict[str, Any]) -> dict[str, Any]:
        return {"data": {"task": f"{QUEUE}-{number}", "text": TEXTS[number - 1]}, "annotations": list(annotations)}

    skipped = {**annotation("no_issue"), "was_cancelled": True}
    project.file = project.root / "export.json"
    full = [
        task(1, annotation("no_issue")), task(2, skipped), task(3, annotation("no_issue", "damaged_item")),
        task(4, annotation("no_issue"), annotation("damaged_item")), task(5),
    ]  # fmt: skip
    project.file.write_text(json.dumps(full))
    merged = project.merge()
    assert [one.text for one in merged.checked.new] == [TEXTS[0]]
    assert merged.checked.unlabelled == [2, 5]
    assert [fault.line for fault in merged.checked.problems] == [3, 4, 4]
    short = [{"id": 9, "task": f"{QUEUE}-6", "text": TEXTS[5], "label": "damaged_item", "annotator": 1}]
    project.file.write_text(json.dumps(short))
    assert [one.label for one in project.merge().checked.new] == ["damaged_item"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.dictionaries(st.integers(1, 8), st.sampled_from(LABELS), min_size=1), min_size=1, max_size=4),
    delimiter=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_whatever_is_merged_in_parts_is_there_once(
    project: Project, parts: list[dict[int, str]], delimiter: str, encoding: str
) -> None:
    """The first label of each review stays, a different one later is a problem, and the record agrees with the data."""
    project.raw.write_text(RAW)
    write_record(project.record(), project.root)
    expected: dict[str, str] = {}
    for labels in parts:
        project.fill(labels, delimiter=delimiter, encoding=encoding)
        merged = project.merge()
        wrong = [n for n, label in labels.items() if expected.get(TEXTS[n - 1], label) != label]
        assert [fault.line for fault in merged.checked.problems] == [n + 1 for n in sorted(wrong)]
        expected = {**{TEXTS[n - 1]: label for n, label in labels.items()}, **expected}
    assert {row["text"]: row["label"] for row in project.rows()[2:]} == expected
    assert len(project.rows()) == 2 + len(expected)
    (record,) = read_records(project.root)
    assert {TEXTS[row.row - 1]: row.label for row in record.rows if row.label} == expected
    sample = {text: label for text, label in expected.items() if text in TEXTS[:4]}
    audit = audited(record)
    assert (audit is None) == (not sample)
    if audit:
        right = sum(label == "delivery_delay" for label in sample.values())
        assert audit.accuracy.value == pytest.approx(right / len(sample))


def test_weights_widen_the_interval() -> None:
    """Equal weights give Wilson's interval; one review that stands for three others counts as fewer."""
    plain = weighted_proportion([True, True, False, True], [2, 2, 2, 2])
    known = proportion(3, 4)
    assert (plain.value, plain.low, plain.high) == pytest.approx((known.value, known.low, known.high))
    assert weighted_proportion([True] * 7, [1] * 7).high == 1
    uneven = weighted_proportion([True, False, True, True], [4, 1, 1, 1])
    assert uneven.value == pytest.approx(6 / 7)
    assert uneven.high - uneven.low > known.high - known.low
