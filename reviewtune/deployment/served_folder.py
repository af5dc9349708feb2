"""Make the folder of a served model (analyzer/served_model.py) from a candidate, and what it is recognised by."""

import hashlib
import json
from pathlib import Path

import pandas as pd

from reviewtune.analyzer.calibration import fit_calibration
from reviewtune.analyzer.served_model import (
    ADAPTER,
    TRAINING_REVIEWS,
    Calibration,
    Provenance,
    ServedModel,
    write_served_model,
)
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.core.user_dirs import account_folder
from reviewtune.deployment.candidate import Candidate
from reviewtune.deployment.measuring import Asked, measure, prior_of
from reviewtune.deployment.model_writer import write_model
from reviewtune.deployment.reference import write_reference
from reviewtune.errors import ProviderError
from reviewtune.evaluation.metrics.calibration import NEVER, threshold_for

TEST_PREDICTIONS = "test_predictions.csv"
"""Columns review_id, label, predicted: a later candidate is compared with them without asking the model again."""
ASKING = ("label_scores", "temperature", "max_tokens", "seed")
"""Settings of the section `evaluation` that answers depend on."""
PROVIDER = (
    "kind", "base_url", "base_model", "structured_output", "label_scores", "leave_out", "answer_limit",
)  # fmt: skip
"""Settings of the section `provider` that answers depend on."""


def served_model(candidate: Candidate, name: str, *, progress: Progress = SILENT) -> ServedModel:
    """What served_model.json says about the candidate; the model may be asked about the validation reviews.

    Args:
        candidate: the candidate.
        name: in the model registry.
        progress: receives messages and a progress bar.

    Raises:
        ProviderError: the model cannot be asked.
    """
    asked = candidate.asked
    validation = _validation(candidate, progress)
    confidence, correct = _columns(validation)
    calibration = fit_calibration(confidence, correct)
    wanted = asked.config.evaluation.cascade.wanted_accuracy
    is_corrected = candidate.measured.metrics.decided_by == "corrected"
    return ServedModel(
        name=name,
        arm=asked.arm,
        kind=asked.kind,
        model=asked.model,
        config=asked.config,
        label_prior=(prior_of(asked, candidate.valid, progress=progress) or None) if is_corrected else None,
        calibration=calibration,
        wanted_accuracy=wanted,
        threshold=_threshold(calibration, confidence, correct, wanted),
        provenance=Provenance(
            run_id=candidate.run_id,
            training_run_id=candidate.training.get("run_id"),
            job_id=candidate.training.get("job_id"),
            git_revision=candidate.git_revision,
            data_sha256=candidate.data_sha256,
            training_sha256=candidate.training_sha256,
            test_sha256=candidate.test_sha256,
        ),
    )


def write_folder(
    served: ServedModel, candidate: Candidate, folder: Path, *, with_weights: bool, progress: Progress = SILENT
) -> None:
    """Write all files into an existing, empty folder.

    Raises:
        ProviderError: the weights are not on this machine.
    """
    write_served_model(served, folder)
    if candidate.asked.pool is not None:
        candidate.asked.pool.to_csv(folder / TRAINING_REVIEWS, index=False, lineterminator="\n")
    predictions = candidate.measured.predictions[["review_id", "label", "predicted"]]
    predictions.to_csv(folder / TEST_PREDICTIONS, index=False, lineterminator="\n")
    write_reference(served, candidate, folder)
    if with_weights:
        _write_adapter(candidate.asked, folder / ADAPTER, progress)


def identity(asked: Asked, training_sha256: str, *, ordered: bool = True) -> str:
    """What makes two candidates the same model, asked in the same way: a hash.

    Only what makes answers is part of it. A budget or a rate limit that changed makes no other model.

    Args:
        asked: the model and how it is asked.
        training_sha256: of its training file.
        ordered: whether the order of the labels counts, which a prompt shows; False: as earlier releases noted it.
    """
    config = asked.config
    labels = dict(config.data.labels)
    parts = {
        "arm": asked.arm,
        "kind": asked.kind,
        "model": asked.model,
        "training": training_sha256,
        "labels": list(labels.items()) if ordered else labels,
        "masked": [config.data.mask_personal, config.data.language if config.data.mask_personal else None],
        "wanted_accuracy": config.evaluation.cascade.wanted_accuracy,
        "asking": _asking(asked),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _asking(asked: Asked) -> dict[str, object]:
    """The settings that the arm's answers depend on."""
    config = asked.config
    if asked.kind == "finetuned":
        return {
            **config.evaluation.model_dump(mode="json", include=set(ASKING)),
            "prompt": config.prompt.model_dump(mode="json"),
            "provider": config.provider.model_dump(mode="json", include=set(PROVIDER)),
        }
    settings = config.arms[asked.arm]
    own = settings.model_dump(mode="json", exclude={"provider", "repeats"})
    provider = getattr(settings, "provider", None)
    return own if provider is None else {**own, "provider": provider.model_dump(mode="json", include=set(PROVIDER))}


def read_predictions(folder: Path) -> pd.DataFrame | None:
    """The test predictions in a served model's folder; None if there are none."""
    path = folder / TEST_PREDICTIONS
    return pd.read_csv(path, dtype=str, keep_default_na=False) if path.exists() else None


def read_pool(folder: Path) -> pd.DataFrame | None:
    """The training reviews in a served model's folder; None if there are none."""
    path = folder / TRAINING_REVIEWS
    return pd.read_csv(path, dtype=str, keep_default_na=False) if path.exists() else None


def _validation(candidate: Candidate, progress: Progress) -> pd.DataFrame | None:
    """Predictions on the validation reviews, asked now if the evaluation did not need them; None without confidences.

    Which means: it has a confidence, or it never will.
    """
    known = candidate.measured.validation
    if known is not None and "confidence" in known:
        return known
    if "confidence" not in candidate.measured.predictions:
        return None
    return measure(
        candidate.asked,
        candidate.test,
        test_sha256=candidate.test_sha256,
        valid=candidate.valid,
        progress=progress,
    ).validation


def _columns(table: pd.DataFrame | None) -> tuple[list[float], list[bool]]:
    """Confidences, and whether each review was classified correctly."""
    if table is None or "confidence" not in table:
        return [], []
    return table["confidence"].astype(float).tolist(), (table["label"] == table["predicted"]).tolist()


def _threshold(
    calibration: Calibration | None, confidence: list[float], correct: list[bool], wanted: float
) -> float | None:
    if calibration is None:
        return None
    threshold = threshold_for([calibration.of(value) for value in confidence], correct, wanted)
    return None if threshold == NEVER else threshold


def _write_adapter(asked: Asked, folder: Path, progress: Progress) -> None:
    provider = asked.config.provider
    if asked.kind != "finetuned" or provider.kind != "local" or provider.base_url is not None:
        raise ProviderError(
            f"--with-weights: {asked.model} has no weights on this machine; only fine-tunes of the local provider have"
        )
    folder.mkdir()
    base_models = [provider.base_model]
    try:
        write_model(
            asked.model, folder, account_folder(), base_models, adapter=True, check=lambda _: None, progress=progress
        )
    except ProviderError as error:
        reason = str(error).partition(";")[0]
        raise ProviderError(f"--with-weights: {reason}; leave the option out to promote the model's name") from error
