"""Nothing that the project chooses by itself looks at the test reviews' labels.

The test walks through all choices: examples in prompts, label prior correction, confidence thresholds and the cascade,
the prompt arm that costs are compared with, the recommended arm, the checkpoint. A sweep's ranking is in tests/sweeps.
"""

import math
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
import pytest

from reviewtune.core.atomic_files import write_json
from reviewtune.core.config.arms import PromptArmConfig
from reviewtune.core.config.config import Config
from reviewtune.core.config.section import LabelScoring
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.progress import SILENT, Progress, TerminalProgress
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import write_reviews
from reviewtune.data.splits import Splits, split
from reviewtune.evaluation import results
from reviewtune.evaluation.arms import evaluate_arm, evaluate_checkpoint, evaluate_finetuned
from reviewtune.evaluation.comparison.compare import compare, load_arm
from reviewtune.evaluation.comparison.comparison_file import Comparison
from reviewtune.evaluation.comparison.findings import never_answered_lines, prior_lines
from reviewtune.evaluation.ground_truth import evaluate_file, read_ground_truth
from reviewtune.evaluation.results import Evaluation
from reviewtune.finetuning.model_record import ModelRecord
from tests.support.recorded import recorded
from tests.support.unbalanced import COUNTS, LABELS, for_tickets, labelling_server, named_in, tickets

ALIKE = dict.fromkeys(LABELS, 20)
SCARCE = {label: max(5, round(30 * 0.85**rank)) for rank, label in enumerate(LABELS)}
ARMS = ("majority", "linear", "zero_shot", "few_shot", "few_shot_retrieved")


def noise(text: str, label: str) -> float:
    return zlib.crc32(f"{text}{label}".encode()) / 2**32


def frequent(text: str) -> Mapping[str, float]:
    """A model that knows how frequent each label is, and sees the review through much noise."""
    rare = {label: -math.log(-math.log(noise(text, label))) for label in LABELS}  # Gumbel's distribution
    return {label: math.log(COUNTS[label]) + 3 * (label == named_in(text)) + rare[label] for label in LABELS}


def biased(text: str) -> Mapping[str, float]:
    """A model that sees the review well, but prefers some labels; it never answers the last one."""
    bias = {label: 3.0 * (rank < 5) for rank, label in enumerate(LABELS)} | {LABELS[-1]: -9.0}
    return {label: bias[label] + 2.0 * (label == named_in(text)) + noise(text, label) for label in LABELS}


@pytest.fixture
def biased_server() -> Iterator[str]:
    with labelling_server(biased) as base_url:
        yield base_url


@pytest.fixture
def frequent_server() -> Iterator[str]:
    with labelling_server(frequent) as base_url:
        yield base_url


class Project:
    """The evaluation of all arms in a folder, without DVC and MLflow."""

    def __init__(self, folder: Path, config: Config, base_url: str, counts: Mapping[str, int] = COUNTS) -> None:
        provider = {"kind": "compatible", "base_url": base_url, "api_key_env": None, "label_scores": "auto"}
        self.folder = folder
        self.config = _with_retrieval(for_tickets(config, counts, **provider))
        self.splits: Splits = split(tickets(counts), self.config.split, train_size="all")
        self.manifest = folder / "manifest.json"
        folder.mkdir(parents=True)
        write_json({"splits": {"test": {"sha256": "t"}}}, self.manifest)

    def arm(self, name: str, scoring: LabelScoring = "auto", progress: Progress = SILENT) -> Evaluation:
        arm, (train, valid, test) = self.config.arms[name], self.splits
        if isinstance(arm, PromptArmConfig):
            arm = arm.model_copy(update={"label_scores": scoring})
        config = self.config.model_copy(update={"arms": {**self.config.arms, name: arm}})
        return evaluate_arm(name, config, train, test, manifest=self.manifest, valid=valid, progress=progress)

    def record(self) -> ModelRecord:
        points = [{"step": 3, "model": "epoch-1", "valid_loss": 0.5}, {"step": 6, "model": "tuned", "valid_loss": 0.9}]
        return recorded("tuned", Prompt.of(self.config), self.splits.train, self.folder / "chat", checkpoints=points)

    def evaluations(self) -> dict[str, Evaluation]:
        record = self.record()
        chat, manifest, (_, valid, test) = self.folder / "chat", self.manifest, self.splits
        tuned = evaluate_finetuned(record, self.config, test, hostile=Path(), chat=chat, manifest=manifest, valid=valid)
        epoch = evaluate_checkpoint(1, record, self.config, test, chat=chat, manifest=manifest, valid=valid)
        return {**{name: self.arm(name) for name in ARMS}, "checkpoint_1": epoch, "finetuned": tuned}

    def compared(self, evaluations: Mapping[str, Evaluation]) -> Comparison:
        for name, result in evaluations.items():
            (self.folder / name).mkdir()
            results.write_tables(result, self.folder / name)
            results.write_run(result, self.folder / name, "id")
        arms = [load_arm(self.folder / name) for name in evaluations]
        cascade = self.config.evaluation.cascade.model_copy(update={"second": "few_shot"})
        return compare(arms, reference="zero_shot", seed=1, resamples=100, cascade=cascade)


def _with_retrieval(config: Config) -> Config:
    few_shot = config.arms["few_shot"]
    retrieved = few_shot.model_copy(update={"examples": "nearest", "shots": 3})
    return config.model_copy(update={"arms": {**config.arms, "few_shot_retrieved": retrieved}})


def choices(project: Project) -> dict[str, object]:
    """Everything that is chosen, by name."""
    evaluations = project.evaluations()
    comparison = project.compared(evaluations)
    assert comparison.cascade is not None
    assert comparison.economics is not None
    answered = {name: result.predictions["predicted"].tolist() for name, result in evaluations.items()}
    confidence = {
        name: result.predictions["confidence"].tolist() for name, result in evaluations.items() if name != "majority"
    }
    thresholds = {
        name: report.abstention and report.abstention.threshold for name, report in comparison.confidence.items()
    }
    return {
        "examples in prompts": {name: result.metrics.prompt_fingerprint for name, result in evaluations.items()},
        "label prior correction": {name: result.metrics.decided_by for name, result in evaluations.items()},
        "validation figures": {name: result.metrics.validation for name, result in evaluations.items()},
        "labels": answered,
        "confidence": confidence,
        "thresholds": thresholds,
        "threshold of the cascade": comparison.cascade.threshold,
        "reviews that the cascade keeps": comparison.cascade.coverage,
        "prompt arm that costs are compared with": comparison.economics.against,
        "recommendation": comparison.recommendation,
        "fine-tuned model": project.record().model,
        "checkpoint": evaluations["checkpoint_1"].subject.model,
    }


def test_no_choice_depends_on_the_labels_of_the_test_reviews(
    tmp_path: Path, config: Config, biased_server: str
) -> None:
    usual = Project(tmp_path / "usual", config, biased_server, SCARCE)
    shuffled = Project(tmp_path / "shuffled", config, biased_server, SCARCE)
    test = usual.splits.test
    labels = test["label"].sample(frac=1, random_state=1).tolist()
    shuffled.splits = usual.splits._replace(test=test.assign(label=labels))
    assert labels != test["label"].tolist()
    chosen, again = choices(usual), choices(shuffled)
    for name, choice in chosen.items():
        assert again[name] == choice, name
    thresholds = chosen["thresholds"]
    assert isinstance(thresholds, dict)
    assert {name for name, value in thresholds.items() if value is not None} >= {"linear", "zero_shot", "finetuned"}


def test_a_choice_does_depend_on_the_labels_of_the_validation_reviews(
    tmp_path: Path, config: Config, biased_server: str
) -> None:
    """Otherwise the test above could not fail."""
    project = Project(tmp_path / "usual", config, biased_server, ALIKE)
    before = project.arm("zero_shot").metrics
    valid = project.splits.valid
    answered = project.arm("zero_shot", "raw").predictions["predicted"].mode()[0]  # a label that it prefers
    project.splits = project.splits._replace(valid=valid.assign(label=answered))
    after = project.arm("zero_shot").metrics
    assert (before.decided_by, after.decided_by) == ("corrected", "raw")


def test_the_correction_is_used_where_it_helps_on_the_validation_reviews(
    tmp_path: Path, config: Config, biased_server: str
) -> None:
    metrics = Project(tmp_path / "p", config, biased_server, ALIKE).arm("zero_shot").metrics
    assert (metrics.label_scores, metrics.decided_by) == ("auto", "corrected")
    known = metrics.validation
    assert known is not None
    assert known.accuracy == known.accuracy_prior_corrected
    assert known.accuracy_as_answered is not None
    assert known.accuracy.value > known.accuracy_as_answered.value + 0.1
    assert metrics.accuracy == metrics.accuracy_prior_corrected


def test_the_correction_is_not_used_where_it_hurts(tmp_path: Path, config: Config, frequent_server: str) -> None:
    """On unbalanced data it takes away what the model knows about the labels' frequencies."""
    project = Project(tmp_path / "p", config, frequent_server)
    metrics, forced = project.arm("zero_shot").metrics, project.arm("zero_shot", "corrected").metrics
    assert (metrics.decided_by, forced.decided_by) == ("raw", "corrected")
    assert metrics.accuracy.value > forced.accuracy.value + 0.1
    assert metrics.validation is not None
    assert metrics.validation.accuracy == metrics.validation.accuracy_as_answered
    assert metrics.accuracy_prior_corrected == forced.accuracy


def test_choice_and_labels_never_answered_are_reported(
    tmp_path: Path, config: Config, biased_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    project = Project(tmp_path / "p", config, biased_server, SCARCE)
    raw = project.arm("zero_shot", "raw", TerminalProgress())
    shown = capsys.readouterr().out
    n = raw.scores.per_label[LABELS[-1]].support
    assert n == raw.scores.never_answered[LABELS[-1]] == 1
    assert "zero_shot never answers " in shown
    project.arm("few_shot", progress=TerminalProgress())
    shown = capsys.readouterr().out
    assert re.search("few_shot: arms.few_shot.shots is 4, but [0-9]+ of 25 labels have fewer training reviews", shown)
    assert "few_shot: label prior correction is " in shown
    assert " as answered, " in shown
    comparison = project.compared(project.evaluations())
    never = never_answered_lines(comparison)
    assert never[0].startswith("finetuned never answers ")
    assert any(f"{LABELS[-1]} (" in line for line in never)
    assert not any(line.startswith("majority") for line in never)
    assert all(
        "validation reviews: accuracy" in line and "; on the test reviews: " in line for line in prior_lines(comparison)
    )
    assert len(prior_lines(comparison)) == 3


def test_only_what_something_is_chosen_on_is_asked_about(tmp_path: Path, config: Config, biased_server: str) -> None:
    project = Project(tmp_path / "p", config, biased_server)
    asked = {scoring: project.arm("zero_shot", scoring) for scoring in ("none", "raw", "corrected", "auto")}
    tests, valids = len(project.splits.test), len(project.splits.valid)
    assert asked["none"].run.requests == tests
    assert asked["raw"].validation is None
    assert asked["raw"].run.requests == tests
    assert asked["corrected"].run.requests == valids  # the test reviews' answers are cached
    assert asked["auto"].run.requests == 0
    assert {result.metrics.prompt_tokens for result in asked.values()} == {10 * tests}  # the cost of a review is one


def test_the_first_arm_of_the_cascade_is_asked_about_the_validation_reviews(
    tmp_path: Path, config: Config, biased_server: str
) -> None:
    project = Project(tmp_path / "p", config, biased_server)
    cascade = project.config.evaluation.cascade.model_copy(update={"first": "zero_shot"})
    evaluation = project.config.evaluation.model_copy(update={"cascade": cascade})
    project.config = project.config.model_copy(update={"evaluation": evaluation})
    result = project.arm("zero_shot", "raw")
    assert result.validation is not None
    assert pd.Index(["review_id", "label", "predicted"]).isin(result.validation.columns).all()


def test_a_file_is_not_evaluated_with_a_choice_that_was_made_on_its_own_reviews(
    tmp_path: Path, config: Config, biased_server: str
) -> None:
    """`reviewtune evaluate` of a prompted model chooses on the validation split, without what is in the file too."""
    project = Project(tmp_path / "p", config, biased_server, ALIKE)
    valid = project.splits.valid
    write_reviews(valid, ProjectPaths(project.folder).splits.valid)
    metrics = {}
    for name, reviews in (("test", project.splits.test), ("valid", valid)):
        reviews[["review_id", "text", "label"]].to_csv(project.folder / f"{name}.csv", index=False)
        truth = read_ground_truth(project.folder / f"{name}.csv", project.config.data)
        metrics[name] = evaluate_file("some-model", truth, project.config, project.folder).metrics
    known = metrics["test"].validation
    assert (metrics["test"].decided_by, known and known.n) == ("corrected", len(valid))
    assert (metrics["valid"].decided_by, metrics["valid"].validation) == ("raw", None)
