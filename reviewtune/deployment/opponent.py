"""Whom a candidate is compared with: the champion on the current test split, or the reference arm without one."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reviewtune.analyzer.open_classifier import open_classifier
from reviewtune.analyzer.served_model import ServedModel, read_served_model
from reviewtune.core.config.arms import EvaluationConfig
from reviewtune.core.config.config import Config
from reviewtune.core.formatting import listed
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.leakage import refuse_leak
from reviewtune.deployment import gates
from reviewtune.deployment.candidate import Candidate
from reviewtune.deployment.gates_file import Contender, Gate
from reviewtune.deployment.served_folder import read_pool, read_predictions
from reviewtune.errors import DataError, ProviderError, ReviewtuneError
from reviewtune.evaluation.comparison.compare import load_arm
from reviewtune.evaluation.metrics.classification import INVALID
from reviewtune.tracking.registry import RegisteredVersion, download

ADVICE = "go back to the data/frozen_splits.csv of its promotion, which keeps test reviews, and run `dvc repro`"


@dataclass(frozen=True)
class Comparison:
    """The gates that need an opponent, and who it is."""

    opponent: Contender | None
    gates: tuple[Gate, ...]


def compare_with_champion(
    champion: RegisteredVersion, candidate: Candidate, config: Config, *, progress: Progress = SILENT
) -> Comparison:
    """Compare the candidate with the champion; if the champion cannot be asked, that is a failed gate."""
    tags = champion.tags
    title = f"the champion (version {champion.version}, {tags.get('arm', '?')})"
    who = Contender(
        arm=tags.get("arm", ""),
        model=tags.get("model", ""),
        run_id=tags.get("evaluation_run"),
        version=champion.version,
        accuracy=None,
    )
    try:
        predictions = _predictions(champion, candidate, config, progress)
        rows = gates.against_champion(
            candidate.measured.predictions,
            gates.Opponent(title, predictions),
            tuple(candidate.asked.config.data.labels),
            config.promotion,
            resamples=config.evaluation.resamples,
        )
    except ReviewtuneError as error:
        asked = f"{title} can be asked about the test reviews"
        gate = Gate(name="champion", asked=asked, seen=f"no: {error}", outcome="failed")
        return Comparison(who, (gate,))
    return Comparison(who.model_copy(update={"accuracy": _accuracy(predictions)}), tuple(rows))


def compare_with_reference(candidate: Candidate, config: Config, root: Path) -> Comparison:
    """Compare a first champion with the reference arm of the last `dvc repro`."""
    name = config.evaluation.reference
    asked = f"no champion yet: better than the reference arm {name}"
    if candidate.asked.arm == name:
        seen = "it is the reference arm; set evaluation.reference to another one"
        return Comparison(None, (Gate(name="reference", asked=asked, seen=seen, outcome="failed"),))
    try:
        arm = load_arm(ProjectPaths(root).arm(name))
        gate = gates.against_reference(
            candidate.measured.predictions,
            gates.Opponent(f"the reference arm {name}", arm.predictions),
            tuple(candidate.asked.config.data.labels),
            resamples=config.evaluation.resamples,
        )
    except DataError as error:
        return Comparison(None, (Gate(name="reference", asked=asked, seen=str(error), outcome="failed"),))
    who = Contender(
        arm=name,
        model=arm.metrics.model,
        run_id=arm.run.mlflow_run_id,
        version=None,
        accuracy=arm.accuracy.value,
    )
    return Comparison(who, (gate,))


def _predictions(champion: RegisteredVersion, candidate: Candidate, config: Config, progress: Progress) -> pd.DataFrame:
    """The champion's labels of the current test reviews: those it was accepted with, if the split is the same one."""
    with tempfile.TemporaryDirectory(prefix="reviewtune-") as scratch:
        folder = download(config.tracking, champion, Path(scratch))
        served = read_served_model(folder)
        known = read_predictions(folder)
        if known is not None and served.provenance.test_sha256 == candidate.test_sha256:
            return known
        _refuse_other_labels(served, candidate.test)
        progress.message(f"asking the champion, {served.model}, about the current test reviews")
        return as_deployed(folder, candidate.test, limits=config.evaluation, progress=progress)


def as_deployed(
    folder: Path, test: pd.DataFrame, *, limits: EvaluationConfig | None = None, progress: Progress = SILENT
) -> pd.DataFrame:
    """The labels that an application gets from the served model in a folder: with its own label prior, not a new one.

    Args:
        folder: of the served model.
        test: columns review_id, text, label.
        limits: with the budget and the rates of the project; None: those of its evaluation.
        progress: receives messages and a progress bar.

    Raises:
        DataError: the folder is damaged.
        LeakError: it knows some of these reviews.
        ProviderError: the model cannot be asked.
    """
    pool = read_pool(folder)
    if pool is not None:
        similarity = read_served_model(folder).config.split.similarity
        refuse_leak(test, {"its training reviews": pool["text"].tolist()}, similarity=similarity, advice=ADVICE)
    classifier = open_classifier(folder, limits=limits, progress=progress)
    given = classifier.classify(test["text"].tolist(), cache=True, progress=progress)
    labels = [INVALID if isinstance(one, ProviderError) else one.label or INVALID for one in given]
    return test[["review_id", "label"]].assign(predicted=labels)


def _refuse_other_labels(served: ServedModel, test: pd.DataFrame) -> None:
    if unknown := sorted(set(test["label"]) - set(served.labels)):
        raise DataError(f"it was trained without the labels {listed(unknown, shown=5)}, which the test reviews have")


def _accuracy(predictions: pd.DataFrame) -> float:
    return float((predictions["label"] == predictions["predicted"]).mean())
