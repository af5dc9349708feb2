"""Whom a candidate is held against: the champion on the current test split, or the reference arm without a champion."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reviewtune.analyzer.served_model import ServedModel, read_served_model
from reviewtune.core.config.config import Config
from reviewtune.core.formatting import listed
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.deployment import gates
from reviewtune.deployment.candidate import Candidate
from reviewtune.deployment.gates_file import Contender, Gate
from reviewtune.deployment.measuring import Asked, measure
from reviewtune.deployment.served_folder import read_pool, read_predictions
from reviewtune.errors import DataError, ReviewtuneError
from reviewtune.evaluation.comparison.compare import load_arm
from reviewtune.tracking.registry import RegisteredVersion, download


@dataclass(frozen=True)
class Comparison:
    """The gates that need an opponent, and who it is."""

    opponent: Contender | None
    gates: tuple[Gate, ...]


def compare_with_champion(
    champion: RegisteredVersion, candidate: Candidate, config: Config, *, progress: Progress = SILENT
) -> Comparison:
    """Hold the candidate against the champion; if the champion cannot be asked, that is a failed gate."""
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
    """Hold a first champion against the reference arm of the last `dvc repro`."""
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
        valid = candidate.valid if served.label_prior is not None else None
        asked = _asked(served, read_pool(folder))
        return measure(
            asked, candidate.test, test_sha256=candidate.test_sha256, valid=valid, progress=progress
        ).predictions


def _asked(served: ServedModel, pool: pd.DataFrame | None) -> Asked:
    """The champion as it was evaluated, without slices: the current reviews may have other columns."""
    data = served.config.data.model_copy(update={"slices": ()})
    config = served.config.model_copy(update={"data": data})
    return Asked(arm=served.arm, kind=served.kind, model=served.model, config=config, pool=pool)


def _refuse_other_labels(served: ServedModel, test: pd.DataFrame) -> None:
    if unknown := sorted(set(test["label"]) - set(served.labels)):
        raise DataError(f"it was trained without the labels {listed(unknown, shown=5)}, which the test reviews have")


def _accuracy(predictions: pd.DataFrame) -> float:
    return float((predictions["label"] == predictions["predicted"]).mean())
