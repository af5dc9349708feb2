"""What `serve-app --record` kept of a champion's answers, read by `reviewtune monitor` and `reviewtune queue`."""

import csv
import json
from pathlib import Path

import pytest

from reviewtune.analyzer.champion import FolderSource
from reviewtune.deployment.app.recorded_answer import recorded_files
from tests.deployment.conftest import reviewtune
from tests.monitoring.conftest import write_csv
from tests.monitoring.test_monitor_command import TOPIC, held_out, monitor, report
from tests.support.app_service import app_process
from tests.support.clones import Clone

AT_ONCE = 64


@pytest.fixture(scope="module")
def asked(watched: Clone) -> list[str]:
    """Asks a service of the project, which records: the held-out reviews and a new topic."""
    with TOPIC.open(encoding="utf-8") as file:
        texts = [*held_out(watched), *(row["text"] for row in csv.DictReader(file))]
    with app_process(watched.folder, "--record", "recorded", environment=watched.env) as app:
        for start in range(0, len(texts), AT_ONCE):
            app.classify(*texts[start : start + AT_ONCE])
    return texts


def test_monitor_takes_the_recorded_answers_and_finds_what_it_finds_in_a_csv(
    watched: Clone, asked: list[str], tmp_path: Path
) -> None:
    status, said = monitor(watched, Path("recorded"), "--no-track")
    assert status == 3, said
    assert f"note: {len(asked)} answers taken from the recording, not asked again\n" in said
    recorded = report(watched)
    assert recorded["first_date"]
    monitor(watched, write_csv(tmp_path / "same.csv", [{"text": text} for text in asked]), "--no-track")
    same = report(watched)
    for part in ("tests", "topics", "labels", "accuracy"):
        assert recorded[part] == same[part]


def test_answers_of_another_version_are_asked_again(watched: Clone, asked: list[str], tmp_path: Path) -> None:
    (file, *_) = recorded_files(watched.folder / "recorded")
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    for line in lines[:3]:
        line |= {"version": "0", "label": "of an earlier model"}
    lines[3] |= {"model": None, "version": None, "label": None}
    other = tmp_path / "reviews-2026-11-29.jsonl"
    other.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"cut')
    _, said = monitor(watched, other, "--no-track")
    assert f"{len(lines) - 4} answers taken from the recording, not asked again; 4 asked again, because another" in said
    assert "1 incomplete line of the recording skipped" in said
    assert "of an earlier model" not in {row["label"] for row in report(watched)["labels"] if row["count"]}


def test_the_queue_asks_for_the_new_topic_with_its_words(watched: Clone, asked: list[str]) -> None:
    said = reviewtune(watched, "queue", "recorded", "--size", "20", "--audit", "4", "--out", "to_label.csv")
    with (watched.folder / "to_label.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    topic = [row for row in rows if row["why"].startswith("new topic: ")]
    assert len(topic) == 5, "a quarter of the queue"
    assert all("app" in row["why"].removeprefix("new topic: ").split(", ") for row in topic)
    assert f"{topic[0]['why']} (5 reviews)" in said
    assert "answers taken from the recording, not asked again" in said
    with (watched.folder / "to_label.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "label": row["predicted"]} for row in rows)
    assert "20 reviews appended" in reviewtune(watched, "queue", "merge", "to_label.csv")


def test_the_queue_takes_the_answers_of_a_service_that_knows_the_folder_only(
    watched: Clone, asked: list[str], tmp_path: Path
) -> None:
    """`serve-app --served-model` calls the same champion by the hash of its folder."""
    reviewtune(watched, "champion", "--out", str(tmp_path / "served"))
    (file, *_) = recorded_files(watched.folder / "recorded")
    lines = [json.loads(line) | {"version": FolderSource(tmp_path / "served").look().version} for line in file.open()]
    other = tmp_path / "reviews-2026-11-29.jsonl"
    other.write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = reviewtune(watched, "queue", str(other), "--size", "10", "--out", str(tmp_path / "to_label.csv"))
    assert "answers taken from the recording, not asked again\n" in said
    assert "asked again, because" not in said


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty", None, "no recording here, that is no reviews-DATE.jsonl of `reviewtune serve-app --record`"),
        ("none.jsonl", None, "no recording here"),
        ("other.jsonl", "{}\n", "not one complete line of a recording; name another file, or a CSV"),
    ],
)
def test_what_is_no_recording_is_one_line(
    watched: Clone, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    path = tmp_path / name
    if content:
        path.write_text(content)
    elif not path.suffix:
        path.mkdir()
    for words in (["monitor", str(path)], ["queue", str(path), "--out", "never.csv"]):
        said = reviewtune(watched, *words, ok=False)
        assert said.splitlines()[-1].startswith("error: ")
        assert message in said
        assert "Traceback" not in said
