"""One job of a sweep: what the pipeline does from prepare to evaluate, for one combination, as one MLflow run.

A job's key is the hash of its settings, its data and the code of those stages: equal keys are one job, which is done
once. Below it, the fine-tune has the same key as the pipeline's, and answers are remembered by content.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from reviewtune.core.config import Config, TrackingConfig
from reviewtune.core.config_loading import from_hydra
from reviewtune.core.project import project_root
from reviewtune.data.reviews import sha256
from reviewtune.errors import DataError
from reviewtune.providers.budget import SWEEP as BUDGET_OF
from reviewtune.tracking.provenance import code_sha256
from reviewtune.tracking.queries import find_runs
from reviewtune.tracking.runs import RunRecord

if TYPE_CHECKING:
    from omegaconf import DictConfig

SECTIONS = ("data", "split", "provider", "prompt", "training", "evaluation")
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


def children_of(tracking: TrackingConfig, sweep: Sweep) -> list[RunRecord]:
    return find_runs(tracking, f"tags.`mlflow.parentRunId` = '{sweep.run_id}'")


def ended(tracking: TrackingConfig, sweep: Sweep) -> list[RunRecord]:
    """Jobs that are done, and those that failed since this command began; a failed one of an earlier is tried again."""
    runs = children_of(tracking, sweep)
    failed = [run for run in runs if run.status == "FAILED" and (run.ended or 0) >= sweep.started]
    return failed + [run for run in runs if run.status == "FINISHED"]
