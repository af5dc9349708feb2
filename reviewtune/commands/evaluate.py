"""The command `evaluate`: score a model on a labelled file and compare the scores with earlier ones."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from reviewtune.core.atomic_files import write_bytes
from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_params
from reviewtune.core.formatting import counted, listed
from reviewtune.core.outputs import refuse_bad_folder
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.errors import ConfigError, DataError
from reviewtune.evaluation import results
from reviewtune.evaluation.comparison.earlier_predictions import (
    PREDICTIONS_FILE,
    earlier_predictions,
    paired_change,
    shared_changes,
    to_text,
)
from reviewtune.evaluation.console_report import report
from reviewtune.evaluation.earlier_metrics import (
    Change,
    EarlierMetrics,
    changes,
    other_test_set,
    read_earlier,
    refuse_other_test_set,
)
from reviewtune.evaluation.ground_truth import (
    GroundTruth,
    evaluate_file,
    leave_out_seen,
    read_ground_truth,
    training_is_unknown,
)
from reviewtune.evaluation.metrics_file import METRICS_FILE
from reviewtune.evaluation.results import Evaluation
from reviewtune.finetuning.model_record import fitting_record
from reviewtune.tracking.queries import artifact_of, find_run

RUN_ID = re.compile("[0-9a-f]{4,32}")  # or its beginning
SHOWN = 100  # reviews that were left out


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """The command's options.

    Args:
        ground_truth: CSV of labelled reviews.
        model: the model's name; None: the one of the last `dvc repro`.
        compare: metrics JSON of an earlier evaluation, or the id of its run.
        out: folder for the results; None: they are only printed.
        other_test_set: compare even if the test sets differ.
        leave_out_seen: score only the reviews that the model was not trained with.
        finetuned: ask the model with the prompt of a fine-tune, although nothing here knows it as one.
        by: further columns whose values are scored separately.
    """

    ground_truth: Path
    model: str | None
    compare: Path | None
    out: Path | None
    other_test_set: bool
    leave_out_seen: bool
    finetuned: bool
    by: Sequence[str]


def _from_run(run_id: str, config: Config, root: Path) -> Path:
    """The metrics file of a stored evaluation; copied next to its predictions, as a server may have them elsewhere.

    Raises:
        TrackingError: there is no such run, or it is not one of an evaluation.
    """
    run = find_run(config.tracking, run_id)
    folder = ProjectPaths(root).work / "earlier" / run.id
    folder.mkdir(parents=True, exist_ok=True)
    for name in (METRICS_FILE, PREDICTIONS_FILE):
        write_bytes(artifact_of(config.tracking, run.id, name).read_bytes(), folder / name)
    return Path(os.path.relpath(folder / METRICS_FILE))


class _Earlier(NamedTuple):
    """An earlier evaluation: its scores, and its predictions or the reason why there are none.

    If it was on another test set, `other_test_set` says which, and only the reviews of both are compared.
    """

    metrics: EarlierMetrics
    predictions: Mapping[str, str]
    why_none: str
    other_test_set: str = ""


def evaluate(options: EvaluateOptions) -> None:
    """Everything that can be refused is refused before the model is asked, which may cost money."""
    root = project_root()
    if options.finetuned and options.model is None:
        raise ConfigError("--finetuned needs --model NAME")
    if options.out:
        _refuse_bad_out(options.out, options, root)
    config = load_params(ProjectPaths(root).params)
    if options.compare and RUN_ID.fullmatch(str(options.compare)) and not options.compare.exists():
        options = replace(options, compare=_from_run(str(options.compare), config, root))
    fitting_record(ProjectPaths(root).model_record, options.model, config)
    metrics = read_earlier(options.compare) if options.compare else None
    truth = read_ground_truth(options.ground_truth, config.data, options.by)
    if options.leave_out_seen:
        truth = leave_out_seen(truth, options.model, config, root)
    earlier = _with_predictions(metrics, truth, options) if metrics else None
    notes = [*_notes_on_training(options, truth, config, root), *_notes_on_test_set(earlier, truth, options)]
    result = evaluate_file(options.model, truth, config, root, finetuned=options.finetuned, progress=TerminalProgress())
    if options.out:
        results.write(result, options.out)
    rows = _changes(earlier, result) if earlier else []
    console = Console()
    for part in report(result, rows, notes, difference=_difference(earlier, result, config) if earlier else ""):
        console.print(part)


def _with_predictions(metrics: EarlierMetrics, truth: GroundTruth, options: EvaluateOptions) -> _Earlier:
    other = ""  # also if the user wants the whole test sets compared
    if not options.other_test_set:
        other = other_test_set(metrics, n=len(truth.reviews), test_sha256=truth.sha256, file=options.ground_truth)
    try:
        return _Earlier(metrics, earlier_predictions(metrics, truth), "", other)
    except DataError as error:
        return _Earlier(metrics, {}, str(error), other)


def _changes(earlier: _Earlier, result: Evaluation) -> list[Change]:
    """Of the whole test set or, if it is not that of before, of the reviews that both have."""
    if not earlier.other_test_set:
        return changes(earlier.metrics, result.metrics)
    return shared_changes(result.predictions, earlier.predictions, result.scores.labels)


def _difference(earlier: _Earlier, result: Evaluation, config: Config) -> str:
    if earlier.why_none:
        return f"the difference has no interval and no test: {earlier.why_none}"
    settings = config.evaluation
    change = paired_change(
        result.predictions,
        earlier.predictions,
        tuple(result.scores.labels),
        seed=settings.seed,
        resamples=settings.resamples,
    )
    return to_text(change)


def _refuse_bad_out(folder: Path, options: EvaluateOptions, root: Path) -> None:
    """Refuse a folder in which a file would be lost.

    Raises:
        DataError: it cannot be written, is one of the pipeline's, or holds files that no evaluation wrote.
    """
    refuse_bad_folder(folder, results.FILES)
    if folder.resolve().is_relative_to(ProjectPaths(root).arm("").resolve()):
        raise DataError(f"--out {folder}: `dvc repro` writes there; name another folder")
    present = [name for name in results.FILES if (folder / name).exists()]
    inputs = {path.resolve() for path in (options.ground_truth, options.compare) if path}
    for name in present:
        if (folder / name).resolve() in inputs:
            raise DataError(f"--out {folder}: {name} would be overwritten, but it is read now; name another folder")
    if present and not (folder / METRICS_FILE).exists():
        raise DataError(f"--out {folder}: {present[0]} is not from an evaluation; name another folder")
    if present:
        read_earlier(folder / METRICS_FILE)


def _notes_on_test_set(earlier: _Earlier | None, truth: GroundTruth, options: EvaluateOptions) -> list[str]:
    skipped = [truth.skipped] if truth.skipped else []
    if earlier is None:
        return skipped
    if options.other_test_set:
        return [
            *skipped,
            f"{earlier.metrics.path} may be from another test set: the difference says nothing about the model alone",
        ]
    if earlier.other_test_set and earlier.predictions:
        both = counted(len(earlier.predictions), "review")
        where = f"{earlier.metrics.path} was measured on {earlier.other_test_set}"
        return [*skipped, f"{where}: old and new are compared on the {both} that both have, with the labels of now"]
    note = refuse_other_test_set(
        earlier.metrics, n=len(truth.reviews), test_sha256=truth.sha256, file=options.ground_truth
    )
    return [*skipped, note] if note else skipped


def _notes_on_training(options: EvaluateOptions, truth: GroundTruth, config: Config, root: Path) -> list[str]:
    if training_is_unknown(options.model, config, root, finetuned=options.finetuned):
        return [f"this project has no record of the training of {options.model}: it may have seen these reviews"]
    if not truth.left_out:
        return []
    file = counted(len(truth.reviews) + len(truth.left_out), "review")
    ids = listed(truth.left_out, shown=SHOWN)
    why = "left out, because the model was trained with them or with near-duplicates"
    return [f"{len(truth.left_out)} of {file} {why}: {ids}"]
