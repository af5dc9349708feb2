"""What other projects of the account need is known, even if a file of theirs is damaged."""

from pathlib import Path

import pytest

from reviewtune.finetuning import projects
from reviewtune.finetuning.job_notes import NOTES


@pytest.mark.parametrize("damaged", [b"\xff\xfe\x00", b"[" * 100_000, b"7", b"", b"[]", b'"job_id"'])
def test_a_damaged_note_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bytes
) -> None:
    monkeypatch.setenv("REVIEWTUNE_HOME", str(tmp_path / "home"))
    other = tmp_path / "other"
    (other / NOTES).mkdir(parents=True)
    (other / NOTES / "a.json").write_bytes(damaged)
    (other / NOTES / "b.json").write_text('{"job_id": "ftjob-1", "models": ["\u00e9"]}', encoding="utf-8")
    projects.remember(other)
    assert projects.needed_by_others(tmp_path / "this") == {"ftjob-1"}
