"""A thousand bad files: one line and exit status 1 (or a report), never a traceback."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reviewtune import chat, checks
from reviewtune.config import Config, compose_text, load_params
from reviewtune.dataset import prepare
from reviewtune.errors import ReviewtuneError
from reviewtune.labelled_file import read
from reviewtune.prompts import Prompt

QUICK = settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

cell = st.one_of(
    st.sampled_from(["late", "broken", "", " ", '"', '""', ",", "\n", "\r", "\x00", "\ufeff", "NaN", "é"]),
    st.text(max_size=12),
)
csv_text = st.builds(
    lambda header, rows, end: end.join([header, *(",".join(row) for row in rows)]),
    st.sampled_from(["text,label", "label,text", "text;label", "text,label,text", "", "text", "\ufefftext,label"]),
    st.lists(st.lists(cell, max_size=4), max_size=8),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
message = st.fixed_dictionaries(
    {}, optional={"role": st.sampled_from(["system", "user", "assistant", "x"]) | anything, "content": anything}
)
json_line = st.one_of(
    st.builds(json.dumps, st.fixed_dictionaries({"messages": st.lists(message | anything, max_size=4) | anything})),
    st.builds(json.dumps, anything),
    st.text(max_size=20),
    st.sampled_from(["[" * 3000, "9" * 5000, '{"messages": [{"role": "user", "content": "\\ud800"}]}', "NaN"]),
)


def refusal(attempt: Callable[[], object]) -> str:
    """What the user is told; empty when all went well. Anything but an error of ours fails the test."""
    try:
        attempt()
    except ReviewtuneError as error:
        return str(error) or "\n"
    return ""


def tried(path: Path, config: Config) -> None:
    """What reads a stranger's file ends well or with one line."""
    prompt = Prompt(config.prompt, config.data.labels)
    for attempt in (lambda: prepare(path, config.data), lambda: chat.check(path, prompt), lambda: looked_at(path)):
        assert "\n" not in refusal(attempt)


def looked_at(path: Path) -> None:
    file = read(path, None, text_column=None, label_column=None)
    for check in (checks.format_, checks.encoding, checks.labels, checks.lengths, checks.personal):
        assert check(file).says
    assert checks.duplicates(file, 0.9).says
    assert checks.conflicts(file, 0.9).says


@given(text=csv_text)
@QUICK
def test_any_csv(text: str, tmp_path: Path, config: Config) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    tried(path, config)


@given(content=st.binary(max_size=60))
@settings(QUICK, max_examples=150)
def test_any_bytes(content: bytes, tmp_path: Path, config: Config) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(b"text,label\n" + content)
    tried(path, config)


@given(lines=st.lists(json_line, max_size=5))
@QUICK
def test_any_jsonl(lines: list[str], tmp_path: Path, config: Config) -> None:
    path = tmp_path / "own.jsonl"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    tried(path, config)


@given(change=st.dictionaries(st.sampled_from(["data", "split", "training", "arms", "x"]), anything, min_size=1))
@settings(QUICK, max_examples=40)
def test_any_params_file(change: dict[str, Any], tmp_path: Path, project: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((project / "params.yaml").read_text() + "\n" + json.dumps(change).strip("{}") + "\n")
    with pytest.raises(ReviewtuneError) as caught:
        load_params(path)
    assert "\n" not in str(caught.value)


@given(
    value=st.text(max_size=12), key=st.sampled_from(["data", "data.labels", "split.test", "training.n_epochs", "x.y"])
)
@settings(QUICK, max_examples=20)
def test_any_override(value: str, key: str, project: Path) -> None:
    assert "\n" not in refusal(lambda: compose_text([f"{key}={value}"], project / "conf"))
