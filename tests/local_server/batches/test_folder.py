"""The answers of a batch on disk: only whole lines, also after a kill or on a full disk."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from reviewtune.local_server.batches.folder import BatchFolder

LINE: Any = {"custom_id": "a", "response": {"body": {"usage": {"input_tokens": 1, "output_tokens": 1,
             "input_tokens_details": {"cached_tokens": 0}}}}}  # fmt: skip


def test_answers_that_do_not_fit_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = BatchFolder(tmp_path)
    folder.append([LINE], [])
    before = folder.output.read_bytes()
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_space)
        with pytest.raises(OSError, match="No space left"):
            folder.append([LINE | {"custom_id": "b"}], [])
    assert folder.output.read_bytes() == before
    folder.append([LINE | {"custom_id": "b"}], [])
    assert folder.tally().done == {"a", "b"}


def no_space(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_line_that_a_kill_left_incomplete_goes(tmp_path: Path) -> None:
    folder = BatchFolder(tmp_path)
    folder.append([LINE], [])
    whole = folder.output.read_bytes()
    folder.output.write_bytes(whole + b'{"custom_id": "b", "resp')
    assert folder.tally().completed == 1
    assert folder.output.read_bytes() == whole
