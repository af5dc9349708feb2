"""A thousand bad files: each gives an error in one line and exit status 1, or a report, but never a traceback.

550 CSV, 400 JSONL and 60 configuration files (`--hypothesis-show-statistics` counts them) are read by the library, and
145 more by commands.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reviewtune.commands.main import main
from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import compose_text, load_params
from reviewtune.data.chat import chat_files
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import prepare
from reviewtune.data_check import checks, label_check
from reviewtune.data_check.labelled_file import read
from reviewtune.errors import ReviewtuneError

QUICK = settings(
    max_examples=400,
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
    """The error's message; empty if there was none. Any other exception fails the test."""
    try:
        attempt()
    except ReviewtuneError as error:
        return str(error) or "\n"
    return ""


def read_everywhere(path: Path, config: Config) -> None:
    """Every reader of a user's file succeeds or reports an error in one line."""
    prompt = Prompt.of(config)
    for attempt in (
        lambda: prepare(path, config.data),
        lambda: chat_files.check(path, prompt),
        lambda: run_checks(path),
    ):
        assert "\n" not in refusal(attempt)


def run_checks(path: Path) -> None:
    file = read(path, None)
    for check in (checks.format_, checks.encoding, label_check.labels, checks.lengths, checks.personal):
        assert check(file).says
    assert checks.duplicates(file, 0.9).says
    assert checks.conflicts(file, 0.9, "refuse").says


@given(text=csv_text)
@QUICK
def test_any_csv(text: str, tmp_path: Path, config: Config) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    read_everywhere(path, config)


@given(content=st.binary(max_size=60))
@settings(QUICK, max_examples=150)
def test_any_bytes(content: bytes, tmp_path: Path, config: Config) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(b"text,label\n" + content)
    read_everywhere(path, config)


@given(lines=st.lists(json_line, max_size=5))
@QUICK
def test_any_jsonl(lines: list[str], tmp_path: Path, config: Config) -> None:
    path = tmp_path / "own.jsonl"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    read_everywhere(path, config)


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


class Shell:
    """Runs commands in a project without a model, whose provider cannot be reached."""

    def __init__(self, folder: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        params = yaml.safe_load((project / "params.yaml").read_text())
        params["provider"] |= {"base_url": "http://127.0.0.1:9/v1", "max_retries": 0}
        (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        (folder / "dvc.yaml").touch()
        shutil.copytree(project / "conf", folder / "conf")
        monkeypatch.chdir(folder)
        self.monkeypatch = monkeypatch

    def ends_well(self, *command: str) -> None:
        """Success, or an error in one line; any other exception fails the test, as the user would see a traceback."""
        self.monkeypatch.setattr(sys, "argv", ["reviewtune", *command])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert code == 0 or (isinstance(code, str) and code.startswith("error: ") and "\n" not in code), code


@pytest.fixture
def shell(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, project, monkeypatch)


@given(text=csv_text)
@settings(QUICK, max_examples=40)
def test_any_csv_in_a_command(text: str, shell: Shell) -> None:
    Path("own.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    shell.ends_well("check-data", "own.csv", "--out", "report.html", "--label-errors", "doubtful.csv")
    shell.ends_well("evaluate", "--ground-truth", "own.csv")
    shell.ends_well("classify", "own.csv", "--out", "sorted.csv", "--base")


@given(lines=st.lists(json_line, max_size=5))
@settings(QUICK, max_examples=40)
def test_any_jsonl_in_a_command(lines: list[str], shell: Shell) -> None:
    Path("own.jsonl").write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    shell.ends_well("check-data", "own.jsonl", "--json")
    shell.ends_well("jobs", "create", "own.jsonl")


metrics = st.dictionaries(st.sampled_from(["accuracy", "precision", "recall_weighted", "f1", "n", "metrics"]), anything)


@given(text=json_line | st.builds(json.dumps, metrics))
@settings(QUICK, max_examples=40)
def test_any_earlier_metrics_in_a_command(text: str, shell: Shell) -> None:
    Path("own.csv").write_text("text,label\nlate,delivery_delay\n")
    Path("old.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    shell.ends_well("evaluate", "--ground-truth", "own.csv", "--compare", "old.json")


@given(text=st.text(max_size=30) | st.builds(json.dumps, anything))
@settings(QUICK, max_examples=25)
def test_any_data_configuration_in_a_command(text: str, shell: Shell) -> None:
    Path("conf/data/own.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    Path("own.csv").write_text("text,label\nlate,delivery_delay\n")
    shell.ends_well("check-data", "own.csv", "--data", "own")
