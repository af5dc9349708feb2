"""Run one job of a sweep: the pipeline from prepare to finetune for one combination, as one MLflow run.

The model is then asked about the validation split, by which the sweep chooses. The test split is left alone.
"""

import json
import math
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from reviewtune.core.atomic_files import write_text
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal import time_left
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.preparation import write_chat, write_labeled, write_splits
from reviewtune.data.reviews import read_reviews
from reviewtune.errors import JobError, ReviewtuneError, TrackingError
from reviewtune.finetuning import model_record
from reviewtune.finetuning.jobs import Order
from reviewtune.finetuning.train import refuse_leaked, train
from reviewtune.sweeps.job import Job, Sweep, ended, label_of
from reviewtune.sweeps.scoring import ACCURACY, is_done, log_validation, score_on_validation
from reviewtune.tracking.provenance import EVALUATION_SECTIONS, describe_run
from reviewtune.tracking.queries import find_runs
from reviewtune.tracking.runs import Run, RunKey, open_run

CHECKED = "checked"  # a file next to chat files that follow the rules; holds the warnings, one per line
INPUTS = {"train": "training", "valid": "validation"}


def prepare_job(job: Job) -> tuple[str, ...]:
    """Do everything that costs nothing: check the settings, split the data, write and check the chat files.

    Jobs share splits and chat files; what another job has written is used again.

    Returns:
        Notes on the splits and warnings about the chat files, for the caller to report.

    Raises:
        ConfigError: a setting has no effect in a sweep.
        DataError: the data, a split or a chat file breaks a rule.
        LeakError: a test review is in a chat file, or a validation review in the training file.
    """
    job.refuse_without_effect()
    checked = job.chat.folder / CHECKED
    if not checked.exists():
        notes: tuple[str, ...] = ()
        with alone(job.splits.folder):
            if not job.splits.manifest.exists():
                write_labeled(job.config, job.source, job.labeled)
                notes = write_splits(job.config, job.labeled, job.splits, frozen=job.frozen)
            if not checked.exists():
                warnings = [*notes, *write_chat(job.config, job.splits, job.chat).warnings]
                refuse_leaked(job.config, job.splits, job.chat)
                _refuse_leaked_validation(job)
                write_text("".join(f"{warning}\n" for warning in warnings), checked)
    return tuple(checked.read_text(encoding="utf-8").splitlines())


def _refuse_leaked_validation(job: Job) -> None:
    """The sweep chooses by the validation split, so that no model may be trained on it."""
    valid, prompt, similarity = read_reviews(job.splits.valid), job.config.prompt, job.config.split.similarity
    model_record.refuse_seen(valid, [job.chat.training], prompt, similarity=similarity, split="validation")


def run_job(job: Job, *, progress: Progress = SILENT) -> float:
    """Do the job, or find that it is done.

    Returns:
        The accuracy on the validation split in [0, 1], for a sweeper to maximise; nan for a job that failed. Such a job
        is kept as a FAILED run with its message, and the other jobs continue.
    """
    sweep = Sweep.current()
    with alone(job.folder):  # of two equal jobs at the same time, the second finds the result of the first
        try:
            earlier = find_runs(job.config.tracking, f"tags.run_key = '{_run_key(job, sweep)}'")
        except TrackingError as error:
            _report_failed(job.variant(sweep.varied if sweep else ()), error, progress)
            return math.nan
        if sweep and (done := next((run for run in earlier if is_done(run)), None)):
            return done.metrics[ACCURACY]
        return _run(job, sweep, is_new=not earlier, progress=progress)


def give_up(job: Job, error: JobError, *, progress: Progress = SILENT) -> float:
    """Keep a job whose process ended without a report as a FAILED run with this message; returns nan."""
    sweep = Sweep.current()
    variant = job.variant(sweep.varied if sweep else ())
    with suppress(JobError, TrackingError), _child(job, variant, sweep):
        raise error
    _report_failed(variant, error, progress)
    return math.nan


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process at a time use the folder, on this machine or on those that share the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        yield


def _run(job: Job, sweep: Sweep | None, *, is_new: bool, progress: Progress) -> float:
    variant = job.variant(sweep.varied if sweep else ())
    counted = sweep if sweep and not sweep.watched else None
    progress.message(f"\njob {label_of(variant)}{_jobs_done(job, counted)}")
    try:
        with _child(job, variant, sweep, is_new=is_new) as run:
            accuracy = _fine_tune_and_validate(job, run, variant, progress)
    except Exception as error:
        _report_failed(variant, error, progress)
        accuracy = math.nan
    with suppress(TrackingError):
        if counted:
            progress.message(_sweep_progress(job, counted))
    return accuracy


def _child(
    job: Job, variant: Mapping[str, str], sweep: Sweep | None, *, is_new: bool = False
) -> AbstractContextManager[Run]:
    """The job's run; continues the run of an earlier try unless there is none."""
    return open_run(
        job.config.tracking,
        name=label_of(variant),
        kind="job",
        tags={
            "job_key": job.key,
            "combination": label_of(variant),
            "overrides": json.dumps(job.overrides),
            **{f"variant.{name}": value for name, value in variant.items()},
        },
        parent=sweep.run_id if sweep else None,
        run_key=RunKey(_run_key(job, sweep), continues="none" if is_new else "any"),
    )


def _run_key(job: Job, sweep: Sweep | None) -> str:
    """By which MLflow finds the job's run again."""
    return f"{sweep.run_id if sweep else None}:{job.key}"


def _fine_tune_and_validate(job: Job, run: Run, variant: Mapping[str, str], progress: Progress) -> float:
    config, folder, splits, started = job.config, job.folder, job.splits, time.monotonic()
    prepare_job(job)
    params = folder / ProjectPaths().params.name
    write_text(job.text, params)
    with run.together():
        # A varied setting without a short name of its own is among the settings already.
        run.params({name: _plain(value) for name, value in variant.items() if "." not in name})
        describe_run(run, config, sections=EVALUATION_SECTIONS, inputs=INPUTS, params=params, splits=splits)
    order = Order.of(config, job.chat)
    record, finetuned = train(run, config, order, splits=splits, models=folder, reports=folder, progress=progress)
    result = score_on_validation(job, record, progress=progress)
    with run.together():
        log_validation(run, job, result)
        model_record.log_curve(run, record, finetuned)
        examples = len(read_reviews(splits.train))
        run.metrics({"training_reviews": examples, "job_seconds": time.monotonic() - started})
    return result.metrics.accuracy.value


def _plain(value: str) -> str:
    """A number in one spelling: the same sweep written with 1.0 instead of 1 continues, and MLflow changes no param."""
    try:
        number = float(value)
    except ValueError:
        return value
    return str(int(number)) if number.is_integer() else repr(number)


def _jobs_done(job: Job, sweep: Sweep | None) -> str:
    if sweep is None:
        return ""
    with suppress(TrackingError):  # a store that is away for a moment must not end the sweep
        return f" ({len(ended(job.config.tracking, sweep))} of {sweep.jobs} jobs done)"
    return ""


def _sweep_progress(job: Job, sweep: Sweep) -> str:
    runs, elapsed = ended(job.config.tracking, sweep), time.time() - sweep.started
    left = time_left.in_words(sweep.seconds_left(runs))
    so_far = f"sweep: {len(runs)} of {sweep.jobs} jobs done in {elapsed / 60:.1f} min"
    return ", ".join(filter(None, [so_far, left]))


def _report_failed(variant: Mapping[str, str], error: Exception, progress: Progress) -> None:
    if not isinstance(error, ReviewtuneError):  # a defect of this program: whoever fixes it needs the traceback
        progress.message("".join(traceback.format_exception(error)).rstrip())
    progress.message(f"job {label_of(variant)} failed: {error}; the other jobs continue")
