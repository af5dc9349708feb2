"""Arms on the real server with a tiny model: what decides, repeats, checkpoints, hostile reviews."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reviewtune.core.atomic_files import write_json
from reviewtune.core.config.config import Config
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.core.config.section import LabelScoring
from reviewtune.data.prompts import Prompt
from reviewtune.errors import ConfigError
from reviewtune.evaluation.arms import evaluate_checkpoint, evaluate_finetuned
from reviewtune.evaluation.consistency import consistency
from reviewtune.evaluation.evaluate import evaluate_baseline, evaluate_model
from reviewtune.evaluation.label_scoring.label_logprobs import LabelScores
from reviewtune.evaluation.metrics.classification import INVALID
from reviewtune.evaluation.metrics_file import CheckpointMetrics
from reviewtune.evaluation.results import Evaluation, write, write_run
from reviewtune.evaluation.subject import BaselineSubject
from tests.support.recorded import recorded
from tests.support.serving import ServerProcess
from tests.support.subjects import model_subject

WAYS = ["as_answered", "prior_corrected"]
MAJORITY = BaselineSubject(arm="majority", kind="majority", seed=1)


@pytest.fixture
def provider(config: Config, server: ServerProcess, base: str) -> ProviderConfig:
    return config.provider.model_copy(update={"base_url": server.base_url, "base_model": base, "timeout": 60.0})


def reviews(config: Config, n: int, word: str = "case") -> pd.DataFrame:
    labels = (list(config.data.labels) * n)[:n]
    texts = [f"{word} {i} {word * (i % 5)}: {label} trouble" for i, label in enumerate(labels)]
    return pd.DataFrame(
        {"review_id": [f"r{i}" for i in range(n)], "text": texts, "label": labels, "label_second": labels, "hard": "0"}
    )


def evaluated(config: Config, provider: ProviderConfig, scoring: LabelScoring, **changes: Any) -> Evaluation:
    subject = model_subject(config, provider, label_scores=scoring, **changes)
    test = reviews(config, 22)
    result = evaluate_model(subject, test, config.data, test_sha256="t")
    if subject.asking.repeats:
        result = result.with_extras(consistency=consistency(subject, test["text"].tolist()))
    return result


def test_both_ways_of_deciding_are_reported_whichever_decides(config: Config, provider: ProviderConfig) -> None:
    raw, corrected = (evaluated(config, provider, scoring) for scoring in ("raw", "corrected"))
    for result, way in ((raw, "as_answered"), (corrected, "prior_corrected")):
        table = result.predictions
        assert table["predicted"].equals(table[way].rename("predicted"))
        assert result.metrics.accuracy == getattr(result.metrics, f"accuracy_{way}")
        assert table["confidence"].between(0, 1).all()
    assert raw.predictions[WAYS].equals(corrected.predictions[WAYS])
    counts = [corrected.predictions[way].nunique() for way in WAYS]
    assert counts[1] > counts[0], "a base model answers few labels; without its prior it answers more"
    assert (corrected.metrics.decided_by, corrected.metrics.invalid) == ("corrected", 0)
    assert corrected.run.calibration_error is not None
    assert 0 <= corrected.run.calibration_error <= 1


def test_without_label_scores_no_log_probabilities_are_requested(config: Config, provider: ProviderConfig) -> None:
    plain = evaluated(config, provider, "none")
    assert "confidence" not in plain.predictions
    assert plain.metrics.decided_by is None
    assert "decided_by" not in plain.metrics.model_dump()
    assert (
        plain.predictions["predicted"].tolist() == evaluated(config, provider, "raw").predictions["predicted"].tolist()
    )


def test_the_number_of_parallel_requests_changes_no_byte(
    tmp_path: Path, config: Config, provider: ProviderConfig
) -> None:
    """Of the results; the last digits of confidences may differ, so those are in confidence.run.json."""
    for name, count in (("many", 16), ("one", 1)):
        result = evaluated(config, provider.model_copy(update={"concurrency": count}), "corrected")
        (tmp_path / name).mkdir()
        write(result, tmp_path / name)
        write_run(result, tmp_path / name, "id")
    written = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("many", "one")]
    runs = [json.loads(files.pop("confidence.run.json"))["confidence"] for files in written]
    assert all(files.pop("run.json") for files in written)
    assert written[0] == written[1]
    assert runs[0] == pytest.approx(runs[1], abs=2e-4)


def test_an_unusable_answer_stays_an_error_with_its_text(config: Config, provider: ProviderConfig) -> None:
    babble = evaluated(config, provider.model_copy(update={"structured_output": False}), "corrected", max_tokens=5)
    assert set(babble.predictions["predicted"]) == {INVALID}
    assert babble.predictions["confidence"].eq(0).all()
    assert babble.predictions["answer"].str.len().gt(0).any()
    assert babble.metrics.invalid == 22


def test_every_score_has_its_interval(config: Config, provider: ProviderConfig) -> None:
    metrics = evaluated(config, provider, "none").metrics
    assert metrics.intervals is not None
    for name in ("precision", "recall", "f1", "macro.f1", *(f"label.{label}.f1" for label in config.data.labels)):
        interval = metrics.intervals[name]
        assert interval.low <= interval.value <= interval.high
    assert metrics.intervals["f1"].value == metrics.f1


def test_slices_by_column_by_language_and_by_length(config: Config) -> None:
    test = reviews(config, 22).assign(language=["en", "ko"] * 11)
    test["text"] = ["x" * 100] * 10 + ["x" * 101] * 10 + ["x" * 300] * 2
    train = pd.DataFrame({"text": ["a"], "label": ["no_issue"]})
    slices = evaluate_baseline(MAJORITY, train, test, config.data, test_sha256="t").metrics.slices
    assert {name: part.n for name, part in slices.items()} == {
        "hard=0": 22, "language=en": 11, "language=ko": 11,
        "length=up to 100": 10, "length=101 to 200": 10, "length=over 200": 2,
    }  # fmt: skip


def test_every_review_has_one_answer_at_temperature_0_but_not_at_2(config: Config, provider: ProviderConfig) -> None:
    consistencies = evaluated(config, provider, "none", temperature=2.0, repeats=3).metrics.consistency
    assert consistencies is not None
    assert set(consistencies) == {"temperature=0", "temperature=2"}
    assert consistencies["temperature=0"].one_answer.value == 1
    assert consistencies["temperature=2"].one_answer.value < 1


def test_the_majority_arm_answers_the_most_frequent_label(config: Config) -> None:
    train = pd.DataFrame({"text": ["a", "b", "c"], "label": ["no_issue", "price_value", "price_value"]})
    result = evaluate_baseline(MAJORITY, train, reviews(config, 22), config.data, test_sha256="t")
    assert set(result.predictions["predicted"]) == {"price_value"}
    assert result.metrics.accuracy.value == pytest.approx(1 / 11, abs=1e-6)
    assert result.predictions["confidence"].tolist() == [round(2 / 3, 4)] * 22


def test_hostile_reviews_and_a_checkpoint_are_scored_on_request(
    tmp_path: Path, project: Path, config: Config, provider: ProviderConfig, base: str
) -> None:
    prompt, chat = Prompt.of(config), tmp_path / "chat"
    rows, points = reviews(config, 11, "another story"), [{"step": 3, "model": base, "valid_loss": 1.5}]
    record = recorded(base, prompt, rows, chat, checkpoints=points)
    settings = config.evaluation.model_copy(update={"injections": True})
    changed = config.model_copy(update={"evaluation": settings, "provider": provider})
    write_json({"splits": {"test": {"sha256": "t"}}}, tmp_path / "manifest.json")
    test, hostile = reviews(config, 11), project / "data" / "injections"
    result = evaluate_finetuned(record, changed, test, chat=chat, manifest=tmp_path / "manifest.json", hostile=hostile)
    injections = result.metrics.injections
    assert injections is not None
    assert injections.n >= 40
    assert len(injections.fell_for) == injections.obeyed + injections.unusable
    epoch = evaluate_checkpoint(1, record, changed, test, chat=chat, manifest=tmp_path / "manifest.json")
    assert epoch.predictions["predicted"].tolist() == result.predictions["predicted"].tolist()  # the same model here
    assert epoch.metrics.arm == "checkpoint_1"
    assert epoch.metrics.checkpoint == CheckpointMetrics(epoch=1, step=3, valid_loss=1.5)
    assert epoch.metrics.cost_per_1k_at_gpt_4o_mini == result.metrics.cost_per_1k_at_gpt_4o_mini
    with pytest.raises(ConfigError, match=r"no model of epoch 2 of .*; kept: 1$"):
        evaluate_checkpoint(2, record, changed, test, chat=chat, manifest=tmp_path / "manifest.json")


def test_without_scores_the_answer_decides() -> None:
    assert LabelScores(("a", "b"), pd.DataFrame([[float("nan")] * 2]).to_numpy()).best() == [None]
