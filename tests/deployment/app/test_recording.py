"""`serve-app --record`: what is kept, what a killed process and a full disk leave, and when files are removed."""

import asyncio
import stat
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from reviewtune.analyzer.classification import Classification
from reviewtune.analyzer.review_analyzer import ReviewAnalyzer
from reviewtune.core.config.config import Config
from reviewtune.deployment.app.day_files import DayFiles
from reviewtune.deployment.app.metrics import AppMetrics
from reviewtune.deployment.app.recorded_answer import RecordedAnswer, file_of, recorded_files
from reviewtune.deployment.app.recorder import Recorder
from reviewtune.errors import ConfigError
from reviewtune.monitoring.recorded_reviews import Recording
from tests.support.app_service import app_folder, app_process
from tests.support.odd_server import OddServer

TODAY = date(2026, 11, 29)
SHOWN = ("label", "confidence", "sure", "model", "version")


def answers_in(folder: Path) -> list[RecordedAnswer]:
    lines = [line for path in recorded_files(folder) for line in path.read_bytes().splitlines()]
    return [RecordedAnswer.model_validate_json(line) for line in lines]


def test_a_killed_service_has_kept_every_answer_and_the_next_one_continues(
    folder: Path, labels: tuple[str, ...], tmp_path: Path
) -> None:
    kept = tmp_path / "recorded"
    with app_process(folder, "--record", str(kept)) as app:
        assert "personal data is masked if data.mask_personal is set" in app.log.read_text()
        results = app.classify(f"{labels[0]} two\nlines", "odd", labels[1])
        app.process.kill()
    recorded = answers_in(kept)
    assert [one.text for one in recorded] == [f"{labels[0]} two lines", "odd", labels[1]]
    for one, result in zip(recorded, results, strict=True):
        assert one.model_dump(exclude={"time", "text"}) == {name: result[name] for name in SHOWN}
        assert abs(datetime.fromisoformat(one.time) - datetime.now(UTC)) < timedelta(minutes=10)
    (file,) = recorded_files(kept)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (kept / ".gitignore").read_text() == "*\n"
    with file.open("ab") as lines:
        lines.write(b'{"time": "2026')  # what a kill in the middle of a line leaves
    with app_process(folder, "--record", str(kept)) as app:
        app.classify(labels[2])
        assert app.samples()["reviewtune_recorded_reviews_total", ()] == 1
    recording = Recording(kept)
    assert [row.cells["text"] for row in recording.rows()] == [f"{labels[0]} two lines", "odd", labels[1], labels[2]]
    assert recording.notes == ["1 incomplete line of the recording skipped"]


def test_a_full_disk_fails_no_request_and_is_logged_once(folder: Path, labels: tuple[str, ...], tmp_path: Path) -> None:
    kept = tmp_path / "recorded"
    kept.mkdir()
    days = [datetime.now(UTC).date() + timedelta(days=later) for later in (0, 1)]  # the test may run over midnight
    for day in days:
        file_of(kept, day).symlink_to("/dev/full")
    with app_process(folder, "--record", str(kept)) as app:
        for _ in range(3):
            assert [one["label"] for one in app.classify(labels[0], labels[1])] == [labels[0], labels[1]]
        assert app.samples()["reviewtune_unrecorded_reviews_total", ()] == 6
        (fault,) = app.events("reviews are not recorded")
        assert fault["reason"] == "No space left on device"
        for day in days:
            file_of(kept, day).unlink()
        app.classify(labels[2])
        assert [one.text for one in answers_in(kept)] == [labels[2]]
        assert len(app.events("recording again")) == 1


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(ConfigError, match=r"--record .*taken: cannot be written .*; name a folder that can"):
        Recorder(taken, days=1, megabytes=1, metrics=AppMetrics(lambda: 0)).start()


def test_personal_data_is_masked_as_for_the_training(tmp_path: Path, config: Config, provider: OddServer) -> None:
    masked = config.model_copy(update={"data": config.data.model_copy(update={"mask_personal": True})})
    analyzer = ReviewAnalyzer(served_model=app_folder(tmp_path / "model", masked, provider.base_url))
    kept, metrics = tmp_path / "recorded", AppMetrics(lambda: 0)
    recorder = Recorder(kept, days=1, megabytes=1, metrics=metrics)
    recorder.start()
    asyncio.run(recorder.record(["Write to ann@example.org"], [Classification(None)], analyzer.written))
    assert [one.text for one in answers_in(kept)] == ["Write to [EMAIL]"]
    assert b"reviewtune_recorded_reviews_total 1.0" in metrics.page()


def test_old_days_are_removed_and_other_files_are_not(tmp_path: Path) -> None:
    files = DayFiles(tmp_path, days=3, limit=10**6)
    other = tmp_path / "reviews-2020-01-01.csv"
    other.write_text("mine")
    for days_ago in range(5, -1, -1):
        files.append(b"{}\n", TODAY - timedelta(days=days_ago))
    assert recorded_files(tmp_path) == [file_of(tmp_path, TODAY - timedelta(days=ago)) for ago in (2, 1, 0)]
    assert other.read_text() == "mine"


def test_the_oldest_days_make_space_and_one_day_alone_is_cut_off(tmp_path: Path) -> None:
    files, line = DayFiles(tmp_path, days=30, limit=1_000), b"x" * 99 + b"\n"
    for days_ago in (2, 1):
        for _ in range(4):
            files.append(line, TODAY - timedelta(days=days_ago))
    for _ in range(9):
        files.append(line, TODAY)
    with pytest.raises(OSError, match="has reached --record-mb"):
        files.append(line, TODAY)
    assert {path.name: path.stat().st_size for path in recorded_files(tmp_path)} == {"reviews-2026-11-29.jsonl": 900}


def test_the_folder_may_vanish(tmp_path: Path) -> None:
    files = DayFiles(tmp_path / "gone", days=1, limit=1_000)
    files.append(b"{}\n", TODAY)
    file_of(tmp_path / "gone", TODAY).unlink()
    (tmp_path / "gone" / ".gitignore").unlink()
    (tmp_path / "gone").rmdir()
    files.append(b"{}\n", TODAY)
    assert file_of(tmp_path / "gone", TODAY).read_bytes() == b"{}\n"
