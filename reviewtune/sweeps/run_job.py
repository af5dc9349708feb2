"""Run one job of a sweep."""

import json
import math
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

from reviewtune.core.atomic_files import write_text
from reviewtune.core.config import Config
from reviewtune.core.entry_point import rare_collections
from reviewtune.core.project import project_root
from reviewtune.data.chat_files import check, lines_of, write_lines
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import prepare, read_reviews, sha256, write_reviews
from reviewtune.data.splits import split, write_splits
from reviewtune.errors import JobError, ReviewtuneError
from reviewtune.evaluation import results
from reviewtune.evaluation.arms import evaluate_finetuned
from reviewtune.finetuning import model_record
from reviewtune.finetuning.cost import allow_training
from reviewtune.finetuning.jobs import Order, finetune, place, telling_of
from reviewtune.providers.client import certificates, connect
from reviewtune.sweeps.job import SECTIONS, Job, Sweep, ended, label_of
from reviewtune.tracking.provenance import circumstances, describe_run
from reviewtune.tracking.queries import find_runs
from reviewtune.tracking.runs import Run, RunKey, open_run

if TYPE_CHECKING:
    pass

IMPORTED_LATE = (  # by what a job calls; git by MLflow, to describe data
    "aiohttp", "git", "openai.resources.files", "openai.resources.fine_tuning.fine_tuning",
    "reviewtune.providers.inference", "scipy.stats", "sklearn.feature_extraction.text", "sklearn.metrics",
)  # fmt: skip
DESCRIBED_AFTER_SECONDS = 0.7  # of training; until then the cores are left to other jobs, which are placed or end
CHECKED = "checked"  # stands beside chat files that hold to the rules


def prepare_job(job: Job) -> Order:
    """The stages prepare, split and format: everything that can be checked before anything is paid."""
    config = job.config
    if not (_chat(job) / CHECKED).exists():
        with alone(job.splits):  # jobs that run at the same time share it
            if not (job.splits / "manifest.json").exists():
                _write_splits(config, job.splits)
            if not (_chat(job) / CHECKED).exists():
                _write_chat(job)
    training, validation = _chat_files(job)
    prices = (config.provider, config.training, config.prices, config.evaluation.budget_usd)
    return Order(training, validation, config.provider, config.training, partial(allow_training, training, *prices))


def _write_splits(config: Config, folder: Path) -> None:
    source = folder / "labeled.csv"
    write_reviews(prepare(project_root() / config.data.path, config.data).reviews, source)
    parts = split(read_reviews(source), config.split, train_size=config.data.train_size)
    write_splits(parts, folder, source=source, settings=config.split)


def _write_chat(job: Job) -> None:
    prompt = Prompt(job.config.prompt, job.config.data.labels)
    for path, part in zip(_chat_files(job), ("train", "valid"), strict=True):
        write_lines(path, lines_of(read_reviews(job.splits / f"{part}.csv"), prompt))
        check(path, prompt)
    _refuse_leak(job)
    (_chat(job) / CHECKED).touch()


def _refuse_leak(job: Job) -> None:
    test = read_reviews(job.splits / "test.csv")
    model_record.refuse_seen(test, _chat_files(job), job.config.prompt, similarity=job.config.split.similarity)


def run_job(job: Job) -> float:
    """Do the job, or find that it was done; returns its accuracy, for a sweeper to maximise.

    A job that fails is kept as a FAILED run with its message and gives nan: the others go on.
    """
    sweep = Sweep.current()
    with alone(job.folder):  # of equal jobs at the same time the second finds the first one's result
        earlier = find_runs(job.config.tracking, f"tags.run_key = '{_run_key(job, sweep)}'")
        if sweep and (done := next((run for run in earlier if run.status == "FINISHED"), None)):
            return done.metrics["accuracy"]
        return _run(job, sweep, is_new=not earlier)


def get_ready(job: Job) -> None:
    """In a process that is to run jobs: what it does once, at its first job else."""
    with rare_collections():
        for name in IMPORTED_LATE:
            import_module(name)
        for kind in (FileObject, FineTuningJob, FineTuningJobEvent):
            kind.model_rebuild()  # openai's types are built when the first of a kind arrives
        circumstances(project_root())
        find_runs(job.config.tracking, f"tags.job_key = '{job.key}'")
        prepare_job(job)
        _refuse_leak(job)  # equal splits are compared once a process
        certificates()


def give_up(job: Job, error: JobError) -> float:
    """A job whose process ended before it could say anything is kept as a FAILED run with this message."""
    sweep = Sweep.current()
    variant = job.variant(sweep.varied if sweep else ())
    with suppress(JobError), _child(job, variant, sweep):
        raise error
    _say_failed(variant, error)
    return math.nan


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time, of this machine or of a shared disk's."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        yield


def _run(job: Job, sweep: Sweep | None, *, is_new: bool) -> float:
    variant = job.variant(sweep.varied if sweep else ())
    telling = sweep if sweep and not sweep.watched else None
    print(f"\njob {label_of(variant)}{_place(job, telling)}", flush=True)
    try:
        with _child(job, variant, sweep, is_new=is_new) as run:
            accuracy = _fine_tune_and_evaluate(job, run, variant)
    except Exception as error:
        _say_failed(variant, error)
        accuracy = math.nan
    if telling:
        print(_progress(job, telling), flush=True)
    return accuracy


def _child(
    job: Job, variant: Mapping[str, str], sweep: Sweep | None, *, is_new: bool = False
) -> AbstractContextManager[Run]:
    """The job's run; the one that an earlier try began, unless there is none."""
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
    return f"{sweep.run_id if sweep else None}:{job.key}"


def _fine_tune_and_evaluate(job: Job, run: Run, variant: Mapping[str, str]) -> float:
    config, folder, splits, started = job.config, job.folder, job.splits, time.monotonic()
    order = prepare_job(job)
    write_text(job.text, folder / "params.yaml")
    inputs = {"train": "training", "valid": "validation", "test": "evaluation"}
    with connect(config.provider) as client:
        placed, created = place(client, order)  # first: the provider trains while the run is described
        with telling_of(placed), run.together():
            time.sleep(DESCRIBED_AFTER_SECONDS if created else 0)
            run.params(variant)
            describe_run(run, config, sections=SECTIONS, inputs=inputs, params=folder / "params.yaml", splits=splits)
        test, examples = read_reviews(splits / "test.csv"), len(read_reviews(splits / "train.csv"))
        finetuned = finetune(client, order, placed=placed)
    made = model_record.record_of(finetuned, order, Prompt.of(config), test_sha256=sha256(splits / "test.csv"))
    model_record.write_record(made, finetuned, models=folder, reports=folder)
    model_record.log(run, made, models=folder, reports=folder)  # at once: `clean` keeps a model that a run names
    arm = folder / "finetuned"
    result = evaluate_finetuned(made, config, test, chat=_chat(job), manifest=splits / "manifest.json")
    results.write_tables(result, arm)
    with run.together():
        results.log(run, result, arm)
        model_record.log_curve(run, made, finetuned)
        run.metrics({"training_reviews": examples, "job_seconds": time.monotonic() - started})
    return result.metrics.accuracy.value


def _chat(job: Job) -> Path:
    return job.splits / f"chat-{Prompt(job.config.prompt, job.config.data.labels).fingerprint}"


def _chat_files(job: Job) -> list[Path]:
    """For training and for validation."""
    return [_chat(job) / f"{name}_data.jsonl" for name in ("training", "validation")]


def _place(job: Job, sweep: Sweep | None) -> str:
    return f" ({len(ended(job.config.tracking, sweep))} of {sweep.jobs} jobs done)" if sweep else ""


def _progress(job: Job, sweep: Sweep) -> str:
    done = len(ended(job.config.tracking, sweep))
    left, elapsed = sweep.seconds_left(done), time.time() - sweep.started
    minutes = f", about {left / 60:.0f} min left" if left else ""
    return f"sweep: {done} of {sweep.jobs} jobs done in {elapsed / 60:.1f} min{minutes}"


def _say_failed(variant: Mapping[str, str], error: Exception) -> None:
    if not isinstance(error, ReviewtuneError):
        traceback.print_exception(error)  # not the user's to mend: whoever mends it needs to see where
    print(f"job {label_of(variant)} failed: {error}; the other jobs go on", flush=True)
