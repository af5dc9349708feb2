"""A server whose libraries are there but cannot be imported says so once, and clients do not try again."""

import os
import time
from pathlib import Path

import openai
import pytest

from tests.support.serving import running

FAULT = "libtorch_cpu.so: cannot open shared object file"


def test_a_library_that_cannot_be_imported_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(f"raise ImportError({FAULT!r})\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with running(tmp_path / "data", "--base-model", base) as server:
        patient = server.client.with_options(max_retries=5)
        start = time.monotonic()
        with pytest.raises(openai.InternalServerError) as caught:
            patient.chat.completions.create(model=base, messages=[{"role": "user", "content": "x"}])
        assert time.monotonic() - start < 10
    assert (caught.value.status_code, caught.value.code) == (503, "model_unavailable")
    assert FAULT in str(caught.value)
    assert server.log.read_text().count('path="/v1/chat/completions"') == 1
