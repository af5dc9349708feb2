"""Hydra multirun sweeps: every combination is checked before job 0, each job is a child run of one parent.

A job does what the pipeline does from split to evaluation, in a folder of its own. Its fine-tune has the same key as
the pipeline's, so a combination that was trained before is not trained again.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from reviewtune import evaluation, record
from reviewtune.arms import evaluate_finetuned
from reviewtune.chat import check, lines_of, write_lines
from reviewtune.client import connect
from reviewtune.config import Config, compose_text, from_hydra, load_params, project_root
from reviewtune.dataset import prepare, read_reviews, write_reviews
from reviewtune.errors import ConfigError
from reviewtune.files import write_text
from reviewtune.finetuning import Order, finetune
from reviewtune.lineage import describe_run
from reviewtune.prompts import Prompt
from reviewtune.splits import split, write_splits
from reviewtune.tracking import RunRecord, find_runs, open_run
from reviewtune.training_budget import allow_training

if TYPE_CHECKING:
    from omegaconf import DictConfig

SECTIONS = ("data", "split", "provider", "prompt", "training", "evaluation")
PARENT = "REVIEWTUNE_SWEEP_PARENT"  # environment variable: how a job finds its sweep, whichever process runs it


@dataclass(frozen=True)
class Job:
    """One combination of a sweep: its configuration and what was varied."""

    config: Config
    text: str  # the configuration as YAML, the same bytes as params.yaml
    varied: str  # such as "prompt=short training.n_epochs=2"

    @classmethod
    def of(cls, tree: "DictConfig", overrides: Sequence[str]) -> Self:
        from omegaconf import OmegaConf

        return cls(from_hydra(tree), OmegaConf.to_yaml(tree, resolve=True), " ".join(overrides) or "default")

    @property
    def folder(self) -> Path:
        """Equal combinations share a folder."""
        return project_root() / ".work" / "sweep" / hashlib.sha256(self.text.encode()).hexdigest()[:16]


@contextmanager
def parent_run(overrides: Sequence[str]) -> Iterator[None]:
    """The run that holds a sweep together; at its end it gets the ranked table, which is also printed.

    Killed half-way, the next sweep with these overrides continues it.
    """
    tracking = load_params(project_root() / "params.yaml").tracking
    name = "sweep " + " ".join(overrides)
    with open_run(tracking, name=name, kind="sweep", tags={}, run_key=name) as run:
        os.environ[PARENT] = run.id
        yield
        children = find_runs(tracking, f"tags.`mlflow.parentRunId` = '{run.id}'")
        rows = ranked([row for child in children if (row := _row(child))])
        run.table(pd.DataFrame(rows), "ranked.json")
        if rows:
            run.metrics({"best_accuracy": rows[0]["accuracy"], "jobs": len(rows)})
            run.tags({"best": rows[0]["combination"], "best_model": rows[0]["model"]})
    show(rows)


def run_job(job: Job) -> float:
    """Fine-tune and evaluate one combination as a child run; returns its accuracy, for a sweeper to maximise."""
    config, folder = job.config, job.folder
    prompt = Prompt(config.prompt, config.data.labels)
    order = _prepared(job, prompt)
    parent = os.environ.get(PARENT)
    with open_run(config.tracking, name=job.varied, kind="job", tags={"combination": job.varied}, parent=parent) as run:
        inputs = {"train": "training", "valid": "validation", "test": "evaluation"}
        params, splits = folder / "params.yaml", folder / "splits"
        describe_run(run, config, sections=SECTIONS, inputs=inputs, params=params, splits=splits)
        with connect(config.provider) as client:
            finetuned = finetune(client, order)
        made = record.record_of(finetuned, order, prompt)
        record.write_record(made, finetuned, models=folder, reports=folder)
        record.log(run, made, finetuned, models=folder, reports=folder)
        test, arm = read_reviews(splits / "test.csv"), folder / "finetuned"
        result = evaluate_finetuned(made, config, test, chat=folder / "chat", manifest=splits / "manifest.json")
        evaluation.write(result, arm)
        evaluation.log(run, result, arm)
    return float(result.metrics["accuracy"]["value"])


def _prepared(job: Job, prompt: Prompt) -> Order:
    """The stages prepare, split and format, in the job's own folder."""
    config, folder = job.config, job.folder
    write_text(job.text, folder / "params.yaml")
    write_reviews(prepare(project_root() / config.data.path, config.data).reviews, folder / "labeled.csv")
    splits = split(read_reviews(folder / "labeled.csv"), config.split, train_size=config.data.train_size)
    write_splits(splits, folder / "splits", source=folder / "labeled.csv", settings=config.split)
    files = {"training": splits.train, "validation": splits.valid}
    for name, reviews in files.items():
        write_lines(folder / "chat" / f"{name}_data.jsonl", lines_of(reviews, prompt))
        check(folder / "chat" / f"{name}_data.jsonl", prompt)
    training, validation = (folder / "chat" / f"{name}_data.jsonl" for name in files)
    prices = (config.provider, config.training, config.prices, config.evaluation.budget_usd)
    return Order(training, validation, config.provider, config.training, partial(allow_training, training, *prices))


def _row(run: RunRecord) -> dict[str, Any] | None:
    """A finished child as a row of the ranked table."""
    if "accuracy" not in run.metrics:
        return None
    numbers = {name: run.metrics[name] for name in ("accuracy", "accuracy_low", "accuracy_high", "f1")}
    names = {"combination": run.tags["combination"], "model": run.tags["model"]}
    return {**names, **numbers, "trained_tokens": run.metrics["trained_tokens"], "mlflow_run_id": run.id}


def ranked(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Best accuracy first, then the cheaper training, then by name."""
    return sorted(rows, key=lambda row: (-row["accuracy"], row["trained_tokens"], row["combination"]))


def show(rows: Sequence[dict[str, Any]]) -> None:
    """The ranked table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table("combination", "accuracy", "95 % interval", "F1", "model", title="sweep, best first")
    for row in rows:
        interval = f"{row['accuracy_low']:.3f} to {row['accuracy_high']:.3f}"
        table.add_row(row["combination"], f"{row['accuracy']:.3f}", interval, f"{row['f1']:.3f}", row["model"])
    Console().print(table)


def check_all(combinations: Sequence[Sequence[str]]) -> None:
    """Compose and check every combination.

    Raises:
        ConfigError: naming each combination that is faulty and why; nothing has run by then.
    """
    faults = []
    for combination in combinations:
        try:
            compose_text(combination, project_root() / "conf")
        except ConfigError as error:
            faults.append(f"[{' '.join(combination)}] {error}")
    if faults:
        number = f"{len(faults)} of {len(combinations)} combinations are faulty"
        raise ConfigError(f"{number}, no job was run: {' | '.join(faults)}")
