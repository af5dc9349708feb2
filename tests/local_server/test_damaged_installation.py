"""Libraries that are installed but cannot be imported: reported once, without retries."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.serving import running

FAULT = "libtorch_cpu.so: cannot open shared object file"


def test_a_server_without_a_working_engine_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(f"raise ImportError({FAULT!r})\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with running(tmp_path / "data", "--base-model", base) as server:
        patient = server.client.with_options(max_retries=5)
        start = time.monotonic()
        with pytest.raises(openai.InternalServerError) as caught:
            patient.chat.completions.create(model=base, messages=[{"role": "user", "content": "x"}])
        assert time.monotonic() - start < 10
        assert server.process.wait(30) == 0  # it would refuse everybody
    assert (caught.value.status_code, caught.value.code) == (503, "model_unavailable")
    assert FAULT in str(caught.value)
    assert server.log.read_text().count('path="/v1/chat/completions"') == 1


def test_a_library_that_only_one_model_needs(tmp_path: Path, base: str) -> None:
    """The other models still work."""
    broken = Path(shutil.copytree(base, tmp_path / "broken"))
    (broken / "tokenizer.json").unlink()
    settings = broken / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"tokenizer_class": "XLMTokenizer"}))
    (broken / "vocab.json").write_text("{}")
    (broken / "merges.txt").touch()
    with running(tmp_path / "data", "--base-model", base, "--base-model", str(broken)) as server:
        ask: Any = {"messages": [{"role": "user", "content": "x"}], "max_completion_tokens": 1}
        with pytest.raises(openai.InternalServerError) as caught:
            server.client.with_options(max_retries=5).chat.completions.create(model=str(broken), **ask)
        assert (caught.value.status_code, caught.value.code) == (503, "model_unavailable")
        assert "sacremoses" in str(caught.value)
        assert server.client.chat.completions.create(model=base, **ask).choices
    assert server.log.read_text().count("status=503") == 1
