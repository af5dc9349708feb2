"""One job of a sweep: what the pipeline does from prepare to evaluate, for one combination, as one MLflow run.

A job's key is the hash of its settings, its data and the code of those stages: equal keys are one job, which is done
once. Below it, the fine-tune has the same key as the pipeline's, and answers are remembered by content.
"""

import hashlib
import json
import math
import os
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Self

from filelock import FileLock
from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

from reviewtune.core.atomic_files import write_text
from reviewtune.core.config import Config, Tracking
from reviewtune.core.config_loading import from_hydra
from reviewtune.core.entry_point import rare_collections
from reviewtune.core.project import project_root
from reviewtune.data.chat_files import check, lines_of, write_lines
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import prepare, read_reviews, sha256, write_reviews
from reviewtune.data.splits import split, write_splits
from reviewtune.errors import DataError, JobError, ReviewtuneError
from reviewtune.evaluation import evaluate
from reviewtune.evaluation.arms import evaluate_finetuned
from reviewtune.finetuning import model_record
from reviewtune.finetuning.cost import allow_training
from reviewtune.finetuning.jobs import Order, finetune, place, telling_of
from reviewtune.providers.budget import SWEEP as BUDGET_OF
from reviewtune.providers.client import certificates, connect
from reviewtune.tracking.provenance import circumstances, code_sha256, describe_run
from reviewtune.tracking.runs import Run, RunRecord, find_runs, open_run

if TYPE_CHECKING:
    from omegaconf import DictConfig

SECTIONS = ("data", "split", "provider", "prompt", "training", "evaluation")
IMPORTED_LATE = (  # by what a job calls; git by MLflow, to describe data
    "aiohttp", "git", "openai.resources.files", "openai.resources.fine_tuning.fine_tuning",
    "reviewtune.providers.inference", "scipy.stats", "sklearn.feature_extraction.text", "sklearn.metrics",
)  # fmt: skip
DESCRIBED_AFTER_SECONDS = 0.7  # of training; until then the cores are left to other jobs, which are placed or end
CHECKED = "checked"  # stands beside chat files that hold to the rules
SWEEP = "REVIEWTUNE_SWEEP"  # environment variable: how a job finds its sweep, whichever process runs it
ENVIRONMENT = (SWEEP, BUDGET_OF)  # what `Sweep.announce` sets


@dataclass(frozen=True)
class Sweep:
    """What a job knows of the sweep that it belongs to."""

    run_id: str
    varied: tuple[str, ...]  # the keys that differ between jobs, such as "training.n_epochs"
    jobs: int
    started: float  # seconds since the epoch, of this command
    done_before: int  # jobs that an earlier command had finished
    watched: bool = False  # the command itself tells how far they are

    def announce(self) -> None:
        """For every job that this process or a child of it runs."""
        os.environ[SWEEP] = json.dumps(asdict(self))
        os.environ[BUDGET_OF] = self.run_id  # one cap for all its jobs, those of earlier commands included

    def seconds_left(self, done: int) -> float | None:
        """From the pace of this command's own jobs, however many run at once; None before the first has ended."""
        own, elapsed = done - self.done_before, time.time() - self.started
        return max(self.jobs - done, 0) * elapsed / own if own > 0 else None

    @classmethod
    def current(cls) -> Self | None:
        found = os.environ.get(SWEEP)
        return cls(**{**json.loads(found), "varied": tuple(json.loads(found)["varied"])}) if found else None


@dataclass(frozen=True)
class Job:
    """One combination: its configuration and the overrides that it came from."""

    config: Config
    text: str  # the configuration as YAML, the same bytes as params.yaml
    overrides: tuple[str, ...]  # such as ("prompt=short", "training.n_epochs=2")

    @classmethod
    def of(cls, tree: "DictConfig", overrides: Sequence[str]) -> Self:
        from omegaconf import OmegaConf

        return cls(from_hydra(tree), OmegaConf.to_yaml(tree, resolve=True), tuple(overrides))

    @cached_property
    def key(self) -> str:
        """64 hex digits: equal settings, data and code, equal keys."""
        named = {section: getattr(self.config, section).model_dump(mode="json") for section in (*SECTIONS, "prices")}
        for pace in ("budget_usd", "requests_per_minute", "tokens_per_minute"):
            named["evaluation"].pop(pace)  # who raises the cap goes on with the same jobs
        named |= {"data_sha256": self._data_sha256, "code_sha256": code_sha256(project_root())}
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()

    @property
    def folder(self) -> Path:
        return project_root() / ".work" / "sweep" / self.key[:16]

    @property
    def splits(self) -> Path:
        """Shared by the jobs that split the same data in the same way."""
        named = [self._data_sha256, *(getattr(self.config, name).model_dump(mode="json") for name in ("data", "split"))]
        return (
            project_root() / ".work" / "sweep" / f"data-{hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]}"
        )

    def variant(self, varied: Sequence[str]) -> dict[str, str]:
        """The varied settings with their short names, such as {"prompt": "short", "n_epochs": "2"}."""
        values = dict(override.lstrip("+~").partition("=")[::2] for override in self.overrides)
        keys = [key for key in varied if key in values] or list(values)
        return dict(zip(short_names(keys), (values[key] for key in keys), strict=True))

    @property
    def _data_sha256(self) -> str:
        path = project_root() / self.config.data.path
        if not path.is_file():
            raise DataError(f"{path}: no such file; mend data.path")
        return sha256(path)


def short_names(keys: Sequence[str]) -> list[str]:
    """The last part of each dotted key, where that is enough to tell them apart."""
    last = [key.rpartition(".")[2] for key in keys]
    return [name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)]


def label_of(variant: Mapping[str, str]) -> str:
    """Such as "prompt=short n_epochs=2"."""
    return " ".join(f"{name}={value}" for name, value in variant.items()) or "as configured"


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


def children_of(tracking: Tracking, sweep: Sweep) -> list[RunRecord]:
    return find_runs(tracking, f"tags.`mlflow.parentRunId` = '{sweep.run_id}'")


def ended(tracking: Tracking, sweep: Sweep) -> list[RunRecord]:
    """Jobs that are done, and those that failed since this command began; a failed one of an earlier is tried again."""
    runs = children_of(tracking, sweep)
    failed = [run for run in runs if run.status == "FAILED" and (run.ended or 0) >= sweep.started]
    return failed + [run for run in runs if run.status == "FINISHED"]


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
        run_key=_run_key(job, sweep),
        reopen=True,
        is_new=is_new,
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
    made = model_record.record_of(
        finetuned, order, Prompt(config.prompt, config.data.labels), test_sha256=sha256(splits / "test.csv")
    )
    model_record.write_record(made, finetuned, models=folder, reports=folder)
    model_record.log(run, made, models=folder, reports=folder)  # at once: `clean` keeps a model that a run names
    arm = folder / "finetuned"
    result = evaluate_finetuned(made, config, test, chat=_chat(job), manifest=splits / "manifest.json")
    evaluate.write_tables(result, arm)
    with run.together():
        evaluate.log(run, result, arm)
        model_record.log_curve(run, made, finetuned)
        run.metrics({"training_reviews": examples, "job_seconds": time.monotonic() - started})
    return float(result.metrics["accuracy"]["value"])


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
