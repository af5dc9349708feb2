"""`reviewtune monitor` as a person runs it, in a project whose champion is a linear arm."""

import csv
import json
from pathlib import Path
from typing import Any

from reviewtune.monitoring.report_file import Monitoring
from tests.deployment.conftest import reviewtune
from tests.monitoring.conftest import write_csv
from tests.support.clones import Clone

TOPIC = Path(__file__).parents[2] / "benchmarks" / "new_topic.csv"


def held_out(clone: Clone) -> list[str]:
    with (clone.folder / "data" / "splits" / "test.csv").open(encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)]


def monitor(clone: Clone, file: Path, *words: str) -> tuple[int, str]:
    """Exit status and output."""
    process = clone.start("python", "-m", "reviewtune", "monitor", str(file), *words)
    said, _ = process.communicate()
    return process.returncode, said


def report(clone: Clone) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((clone.folder / "reports/monitoring/monitoring.json").read_text())
    return made


def test_the_held_out_again_are_calm_and_an_mlflow_run_notes_them(watched: Clone, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "same.csv", [{"text": text} for text in held_out(watched)])
    status, said = monitor(watched, file)
    assert status == 0, said
    assert "calm: no significant change" in said
    assert "accuracy without labels: " in said
    found = Monitoring.model_validate_json((watched.folder / "reports/monitoring/monitoring.json").read_bytes())
    assert found.accuracy.accuracy is not None
    assert found.accuracy.reference is not None
    assert found.accuracy.accuracy.low <= found.accuracy.reference.value <= found.accuracy.accuracy.high
    assert monitor(watched, file)[0] == 0
    (run,) = [run for run in watched.runs() if run.data.tags.get("kind") == "monitoring"]
    assert run.data.metrics["alarms"] == 0
    assert run.data.tags["reports"] == "1"  # the same file again is no second step
    page = (watched.folder / "reports/monitoring/monitoring.html").read_text()
    assert "http://" not in page
    assert "https://" not in page


def test_a_new_topic_is_an_alarm_with_words_and_examples(watched: Clone, tmp_path: Path) -> None:
    with TOPIC.open(encoding="utf-8") as file:
        topic = [row["text"] for row in csv.DictReader(file)]
    rows = [{"text": text} for text in [*held_out(watched), *topic]]
    status, said = monitor(watched, write_csv(tmp_path / "topic.csv", rows))
    assert status == 3, said
    found = report(watched)
    assert found["verdict"] == "alarm"
    assert "app" in found["topics"][0]["words"]
    assert found["accuracy"]["status"] == "not reliable"
    assert "there are new topics" in said
    (run,) = [run for run in watched.runs() if run.data.tags.get("kind") == "monitoring"]
    assert run.data.tags["verdict"] == "alarm"


def test_bad_files_get_one_line_or_an_honest_report(watched: Clone, tmp_path: Path) -> None:
    status, said = monitor(watched, write_csv(tmp_path / "a.csv", [{"when": "1", "stars": "5"}]))
    assert status == 1
    assert "no column 'text': it has when, stars; name the column with the reviews with --text-column" in said
    status, said = monitor(watched, write_csv(tmp_path / "b.csv", [{"text": "", "stars": "5"}]))
    assert status == 1
    assert "no review: the column 'text' is empty" in said
    assert "Traceback" not in said
    status, said = monitor(watched, write_csv(tmp_path / "c.csv", [{"text": f"Late {n}."} for n in range(3)]))
    assert status == 0
    assert "nothing was tested: fewer than 20 new reviews" in said


def test_held_out_in_another_language_are_an_alarm(watched: Clone, tmp_path: Path) -> None:
    with (watched.folder / "data" / "raw" / "reviews_ko.csv").open(encoding="utf-8") as file:
        rows = [{"text": row["text"]} for row in csv.DictReader(file)][:60]
    status, said = monitor(watched, write_csv(tmp_path / "ko.csv", rows))
    assert status == 3
    assert "not in the reference: ko 60" in said
    assert "not reliable" in said


def test_a_champion_without_a_reference_gets_a_remedy(watched: Clone, tmp_path: Path) -> None:
    folder = tmp_path / "champion"
    reviewtune(watched, "champion", "--out", str(folder))
    (folder / "reference.json").unlink()
    file = write_csv(tmp_path / "one.csv", [{"text": "Late."}])
    status, said = monitor(watched, file, "--served-model", str(folder))
    assert status == 1
    assert "was promoted before `monitor` existed; promote the model again" in said
