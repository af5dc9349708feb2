"""What is true for every command of `reviewtune`."""

import sys

import pytest

from reviewtune.commands.main import main
from reviewtune.errors import INTERRUPTED


def test_ctrl_c_reports_how_to_continue(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reviewtune.commands.cache.show_stats", interrupted)
    monkeypatch.setattr(sys, "argv", ["reviewtune", "cache", "stats"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == INTERRUPTED
    assert capsys.readouterr().err == "interrupted: run the same command again to continue\n"
