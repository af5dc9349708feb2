"""The pictures of a sweep's jobs, drawn from their stored tables when all jobs have ended."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from reviewtune.core.config.config import TrackingConfig
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.evaluation.metrics.classification import score
from reviewtune.evaluation.plots import confusion_matrix
from reviewtune.evaluation.results import CONFUSION
from reviewtune.finetuning.model_record import CURVE, PICTURE, picture_of
from reviewtune.sweeps.scoring import VALIDATION
from reviewtune.tracking.queries import artifact_of, artifacts_of, stored_run
from reviewtune.tracking.runs import RunRecord


def draw_missing(tracking: TrackingConfig, jobs: Sequence[RunRecord], *, progress: Progress = SILENT) -> None:
    """Draw the pictures that finished jobs do not have yet, and add them to the jobs' runs."""
    missing = [job for job in jobs if not _has_all(tracking, job.id)]
    with progress.bar("pictures", len(missing)) as step, TemporaryDirectory() as folder:
        for job in missing:
            _draw(tracking, job, Path(folder))
            step(1)


def _has_all(tracking: TrackingConfig, run_id: str) -> bool:
    of_split = artifacts_of(tracking, run_id, VALIDATION)
    return PICTURE in artifacts_of(tracking, run_id) and f"{VALIDATION}/{CONFUSION}" in of_split


def _draw(tracking: TrackingConfig, job: RunRecord, folder: Path) -> None:
    (folder / PICTURE).write_bytes(picture_of(artifact_of(tracking, job.id, CURVE)))
    (folder / CONFUSION).write_bytes(_confusion(tracking, job))
    run = stored_run(tracking, job.id)
    run.artifact(folder / PICTURE)
    run.artifact(folder / CONFUSION, VALIDATION)


def _confusion(tracking: TrackingConfig, job: RunRecord) -> bytes:
    """Of the validation split; that of the test split is drawn when a model is asked about it."""
    tables = (artifact_of(tracking, job.id, f"{VALIDATION}/{name}") for name in ("predictions.csv", "per_label.csv"))
    answers, labels = (pd.read_csv(table, dtype=str, keep_default_na=False) for table in tables)
    scores = score(answers["label"].tolist(), answers["predicted"].tolist(), labels=labels["label"].tolist())
    return confusion_matrix(scores, f"{job.tags['model']}, validation split")
