"""models/finetuned.json and models/run.json, of this release and of earlier ones; leaks are refused for any prompt."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewtune.core.config.config import Config
from reviewtune.core.result_file import write_result
from reviewtune.data.chat.chat_files import lines_of, write_lines
from reviewtune.data.prompts import Prompt
from reviewtune.errors import ConfigError, DataError, LeakError
from reviewtune.finetuning.model_record import _without_prompt, fitting_record, read_record, refuse_seen, texts_of
from reviewtune.finetuning.run_file import FinetuneRun
from reviewtune.tracking.run_file import read_run_id

OLD: dict[str, Any] = {  # as the release before the version wrote it
    "model": "ft:gemma-3-270m:local:reviews:dce3df8b",
    "job_id": "ftjob-dce3df8b3398bcfa5765e06f",
    "base_model": "gemma-3-270m",
    "provider": "local",
    "prompt_fingerprint": "4d4ad5a314cc390e",
    "training_sha256": "8a7d36678b664e6f4a0bd256a130402aaaf340a88790ccb971755ea24a404541",
    "validation_sha256": "f6ab4bc8bd6dd8f3e974c2a5033663eb3a87f4985100f7005ca7082190cd8713",
    "test_sha256": "819fcb56346e15005c4036aad3eaf81efed8cf00e8d00a2398652d55e56a8fb2",
    "run_key": "2acfffcb35092bb758e30e6c44f1974acef86875048ed0d95ac189a2948ea8f4",
    "seed": 13,
    "hyperparameters": {"batch_size": 8, "learning_rate_multiplier": 1.0, "n_epochs": 2},
    "trained_tokens": 57134,
    "checkpoints": [
        {"step": 58, "model": "ft:gemma-3-270m:local:reviews:dce3df8b:ckpt-step-58", "valid_loss": 0.1011},
        {"step": 116, "model": "ft:gemma-3-270m:local:reviews:dce3df8b:ckpt-step-116", "valid_loss": None},
    ],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "finetuned.json", OLD)


def write(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_a_record_without_a_version_is_read(path: Path) -> None:
    record = read_record(path)
    assert (record.version, record.order_key, record.hyperparameters.n_epochs) == (1, OLD["run_key"], 2)
    assert [(point.step, point.valid_loss) for point in record.checkpoints] == [(58, 0.1011), (116, None)]


def test_a_record_is_written_with_its_version_and_read_back(path: Path) -> None:
    record = read_record(path)
    write_result(record, path)
    written = json.loads(path.read_text())
    assert {name: written.pop(name) for name in ("version", "order_key")} == {"version": 1, "order_key": OLD["run_key"]}
    assert [written.pop(name) for name in ("data", "data_sha256", "labels")] == ["", "", []]
    assert written == {name: value for name, value in OLD.items() if name != "run_key"}
    assert read_record(path) == record


def test_values_that_only_some_providers_report_are_kept(path: Path) -> None:
    write(path, {**OLD, "hyperparameters": {"n_epochs": 2, "lora_rank": 8}, "seed": None})
    record = read_record(path)
    assert record.hyperparameters.model_dump() == {"n_epochs": 2, "lora_rank": 8}
    assert record.seed is None


@pytest.fixture
def fitting(config: Config) -> dict[str, Any]:
    """The record of a model that the configuration describes."""
    new = {"data": "reviews_en", "data_sha256": "d" * 64, "labels": list(config.data.labels)}
    return {**OLD, **new, "prompt_fingerprint": Prompt.of(config).fingerprint}


def test_a_model_is_asked_only_if_the_configuration_describes_it(
    path: Path, config: Config, fitting: dict[str, Any]
) -> None:
    for model in (None, OLD["model"], OLD["checkpoints"][0]["model"]):
        assert fitting_record(write(path, fitting), model, config) == read_record(path)
    assert fitting_record(path, "ft:another", config) is None
    assert fitting_record(path.with_name("none.json"), "ft:another", config) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": "reviews_ko"},
            "trained with data set reviews_ko, but params",
        ),
        ({"labels": ["late", "broken"]}, "trained with labels late, broken, but params.yaml has delivery_delay"),
        ({"prompt_fingerprint": "0" * 16}, "trained with prompt 0{16}, but params.yaml has "),
        ({"data": "", "labels": [], "prompt_fingerprint": "0" * 16}, "trained with prompt"),  # of an earlier release
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    path: Path, config: Config, fitting: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    write(path, {**fitting, **changes})
    for model in (None, OLD["model"], OLD["checkpoints"][0]["model"]):
        with pytest.raises(ConfigError, match=message) as caught:
            fitting_record(path, model, config)
    assert "`dvc checkout`" in str(caught.value)
    assert "`dvc repro`" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, r"version 2, this release reads version 1; upgrade reviewtune"),
        ({"trained_tokens": "many"}, r"damaged \(trained_tokens: .*\): run `dvc repro --force finetune`"),
        ({"surprise": 1}, "damaged"),
    ],
)
def test_an_unreadable_record_is_one_line_with_the_next_step(path: Path, changes: dict[str, Any], message: str) -> None:
    write(path, {**OLD, **changes})
    with pytest.raises(DataError, match=message) as caught:
        read_record(path)
    assert str(path) in str(caught.value)


def test_without_a_record_the_error_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no fine-tuned model yet; run `dvc repro finetune`"):
        read_record(tmp_path / "finetuned.json")


def test_a_checkpoint_is_chosen_by_its_epoch(path: Path) -> None:
    record = read_record(path)
    assert (record.checkpoint(1).step, record.checkpoint(2).step) == (58, 116)
    with pytest.raises(ConfigError, match=r"no model of epoch 3 of .*; kept: 1, 2"):
        record.checkpoint(3)


def test_the_runs_id_is_read_from_files_of_any_stage_and_release(tmp_path: Path) -> None:
    write_result(FinetuneRun(mlflow_run_id="a" * 32, job_seconds=570), tmp_path / "run.json")
    assert json.loads((tmp_path / "run.json").read_text()) == {
        "version": 1, "mlflow_run_id": "a" * 32, "job_seconds": 570
    }  # fmt: skip
    assert read_run_id(tmp_path / "run.json") == "a" * 32
    assert read_run_id(write(tmp_path / "old.json", {"mlflow_run_id": "b" * 32, "job_seconds": 570})) == "b" * 32
    assert read_run_id(write(tmp_path / "arm.json", {"mlflow_run_id": "c" * 32, "latency_p50": 0.1})) == "c" * 32


def chat_file(config: Config, folder: Path, template: str, text: str) -> tuple[Path, Prompt]:
    """A chat file with one review."""
    prompt = Prompt(config.prompt.model_copy(update={"user": template}), config.data.labels)
    path = folder / "training_data.jsonl"
    label = next(iter(config.data.labels))
    write_lines(path, lines_of(pd.DataFrame({"text": [text], "label": [label]}), prompt))
    return path, prompt


TEMPLATES = ["{text}", "Review: {text}", "{text}\n\nLabel?", "Once: {text}\nAgain: {text}!"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_leak_is_refused_whatever_the_prompt_puts_around_the_review(
    config: Config, tmp_path: Path, template: str
) -> None:
    text = "the parcel arrived three weeks late and nobody answered"
    path, prompt = chat_file(config, tmp_path, template, text)
    assert texts_of(path, prompt.settings) == [text]
    test = pd.DataFrame({"review_id": ["r1"], "text": [text]})
    with pytest.raises(LeakError, match="r1"):
        refuse_seen(test, [path], prompt.settings, similarity=0.9)


def test_a_chat_file_of_a_different_prompt_is_refused_instead_of_compared(config: Config, tmp_path: Path) -> None:
    path, _ = chat_file(config, tmp_path, "Review: {text}", "late")
    other = config.prompt.model_copy(update={"user": "Rezension: {text}"})
    with pytest.raises(DataError, match=r"training_data\.jsonl line 1: .* does not have the form of prompt"):
        texts_of(path, other)


@given(st.sampled_from(TEMPLATES), st.text())
def test_the_review_is_recovered_from_any_message(template: str, text: str) -> None:
    assert _without_prompt(template.replace("{text}", text), template) == text
