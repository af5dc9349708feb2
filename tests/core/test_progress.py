"""A progress bar shows what it is told, and nothing in it is markup."""

import sys

import pytest

from reviewtune.core.progress import progress_bar


def test_a_note_with_brackets_is_shown_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Notes hold statuses and errors as servers write them."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    with progress_bar("x", total=1) as step:
        step(1, note="status [/b] [red]")
    assert "status [/b] [red]" in capsys.readouterr().err
