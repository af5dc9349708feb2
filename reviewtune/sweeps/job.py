"""One job of a sweep: its settings, its key and its files; and what a job knows about its sweep.

A job's key is the hash of its settings, its data and the code of the stages from prepare to evaluate. Equal keys are
one job, which is done once. The fine-tune below it has the same key as the pipeline's, and answers are cached by
content.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from reviewtune.core.config.arms import LIMITS
from reviewtune.core.config.config import Config, TrackingConfig
from reviewtune.core.config.loading import composition, from_hydra
from reviewtune.core.project import ChatFiles, ProjectPaths, SplitFiles, project_root
from reviewtune.core.terminal.time_left import Mark, Pace
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import sha256
from reviewtune.data.sides.frozen_file import read_frozen
from reviewtune.errors import ConfigError, DataError
from reviewtune.providers.budget import SWEEP as BUDGET_OF
from reviewtune.tracking.provenance import EVALUATION_SECTIONS, code_sha256
from reviewtune.tracking.queries import find_runs
from reviewtune.tracking.runs import RunRecord

if TYPE_CHECKING:
    from omegaconf import DictConfig

SWEEP = "REVIEWTUNE_SWEEP"  # environment variable: how a job finds its sweep in any process
ENVIRONMENT = (SWEEP, BUDGET_OF)  # what `Sweep.announce` sets
DATA_STAGES = ("prepare", "split", "format")  # whose code decides what the splits and chat files hold
WITHOUT_EFFECT = (
    "arms", "evaluation.cascade", "evaluation.checkpoints", "evaluation.reference", "promotion", "retraining",
)  # fmt: skip
"""Settings of arms other than the fine-tuned model, of their comparison and of what follows it: a sweep has none."""
ONE_PER_SWEEP = (
    "tracking", "lifecycle", "evaluation.resamples", "evaluation.budget_usd", "evaluation.requests_per_minute",
    "evaluation.tokens_per_minute",
)  # fmt: skip
"""Settings that hold for all jobs of a sweep together, so that jobs cannot differ in them."""


@dataclass(frozen=True)
class Sweep:
    """What a job knows about its sweep."""

    run_id: str
    varied: tuple[str, ...]  # the keys that differ between jobs, such as "training.n_epochs"
    jobs: int
    started: float  # when this command started, in seconds since the epoch
    done_before: int  # jobs that an earlier command had finished
    watched: bool = False  # the command itself reports how many jobs are done

    def announce(self) -> None:
        """Make it known to every job in this process and its children."""
        os.environ[SWEEP] = json.dumps(asdict(self))
        os.environ[BUDGET_OF] = self.run_id  # one cap for all jobs, those of earlier commands included

    def seconds_left(self, runs: Sequence[RunRecord]) -> float | None:
        """From the pace of the jobs that this command did, however many ran at once; None while it is not steady.

        Args:
            runs: the jobs that have ended.
        """
        own = sorted(run.ended for run in runs if run.ended and run.ended >= self.started)
        marks = [Mark(self.started, 0), *(Mark(at, number) for number, at in enumerate(own, start=1))]
        return Pace(marks).seconds_left(self.jobs - self.done_before, time.time())

    @classmethod
    def current(cls) -> Self | None:
        """The sweep that `announce` made known; None outside a sweep."""
        announced = os.environ.get(SWEEP)
        if not announced:
            return None
        fields = json.loads(announced)
        return cls(**{**fields, "varied": tuple(fields["varied"])})


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
        """64 hex digits that are equal for equal settings, data and code."""
        sections = (*EVALUATION_SECTIONS, "prices")
        named = {section: getattr(self.config, section).model_dump(mode="json") for section in sections}
        for limit in LIMITS:
            named["evaluation"].pop(limit)  # with a higher limit the same jobs continue
        named |= {"data_sha256": self._data_sha256, "frozen_sha256": self._frozen_sha256}
        named |= {"code_sha256": code_sha256(project_root())}
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()

    @property
    def source(self) -> Path:
        """The CSV with the labelled reviews."""
        return project_root() / self.config.data.path

    @property
    def folder(self) -> Path:
        """Where the job writes its model's record and its evaluation."""
        return ProjectPaths(project_root()).work / "sweep" / self.key[:16]

    @property
    def frozen(self) -> Path:
        """The sides that reviews keep, as in the pipeline."""
        return ProjectPaths(project_root()).frozen_splits

    @property
    def splits(self) -> SplitFiles:
        """Shared by the jobs that split the same data with the same frozen sides, settings and code."""
        settings = [getattr(self.config, name).model_dump(mode="json") for name in ("data", "split")]
        named = [self._data_sha256, self._frozen_sha256, code_sha256(project_root(), DATA_STAGES), *settings]
        digest = hashlib.sha256(json.dumps(named).encode()).hexdigest()
        return SplitFiles(ProjectPaths(project_root()).work / "sweep" / f"data-{digest[:16]}")

    @property
    def labeled(self) -> Path:
        """The normalised table that the splits are made from."""
        return self.splits.folder / "labeled.csv"

    @property
    def chat(self) -> ChatFiles:
        """Shared by the jobs that have the same splits and the same prompt."""
        return ChatFiles(self.splits.folder / f"chat-{Prompt.of(self.config).fingerprint}")

    def variant(self, varied: Sequence[str]) -> dict[str, str]:
        """The varied settings with their short names, such as {"prompt": "short", "n_epochs": "2"}."""
        values = dict(override.lstrip("+~").partition("=")[::2] for override in self.overrides)
        keys = [key for key in varied if key in values] or list(values)
        return dict(zip(short_names(keys), (values[key] for key in keys), strict=True))

    def refuse_without_effect(self) -> None:
        """Refuse settings of this job that a sweep cannot honour.

        Raises:
            ConfigError: an override, or evaluation.checkpoints in conf/, has no effect in a sweep.
        """
        refuse_without_effect(override.lstrip("+~").partition("=")[0] for override in self.overrides)
        if self.config.evaluation.checkpoints:
            refuse_without_effect(["evaluation.checkpoints"])

    @property
    def _data_sha256(self) -> str:
        if not self.source.is_file():
            raise DataError(f"{self.source}: no such file; correct data.path")
        return sha256(self.source)

    @cached_property
    def _frozen_sha256(self) -> str:
        read_frozen(self.frozen)  # a file that cannot be used is reported before anything is written
        return sha256(self.frozen)


def composed(overrides: Sequence[str]) -> Job:
    """The job of these overrides."""
    return Job(*_composition(tuple(overrides), project_root() / "conf"), tuple(overrides))


def job_of(run: RunRecord) -> Job:
    """The job of this run, as conf/ describes it now."""
    return composed(json.loads(run.tags["overrides"]))


@cache
def _composition(overrides: tuple[str, ...], conf: Path) -> tuple[Config, str]:
    """Checked, and as text; cached, because the check, a launcher and the end of a sweep need it."""
    return composition(overrides, conf)


def refuse_without_effect(keys: Iterable[str]) -> None:
    """Refuse settings that a sweep cannot honour.

    Raises:
        ConfigError: with the first of these configuration keys that has no effect in a sweep.
    """
    if key := _first_below(keys, WITHOUT_EFFECT):
        raise ConfigError(
            f"{key} has no effect in a sweep, which evaluates only the fine-tuned model of each combination; "
            "leave it out, or use `dvc exp run -S`"
        )


def refuse_varied(keys: Iterable[str]) -> None:
    """Refuse to vary settings that hold for the whole sweep.

    Raises:
        ConfigError: with the first of these varied keys that must be the same for all jobs.
    """
    if key := _first_below(keys, ONE_PER_SWEEP):
        raise ConfigError(f"{key} cannot be varied: one value holds for the whole sweep; give it a single value")


def _first_below(keys: Iterable[str], sections: Sequence[str]) -> str | None:
    """The first key that is in one of these sections; `arm@arms` is in `arms`."""
    for key in keys:
        path = key.rpartition("@")[2]
        if any(path == name or path.startswith(f"{name}.") for name in sections):
            return key
    return None


def short_names(keys: Sequence[str]) -> list[str]:
    """The last part of each dotted key, or the whole key if that part is not unique."""
    last = [key.rpartition(".")[2] for key in keys]
    return [name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)]


def label_of(variant: Mapping[str, str]) -> str:
    """Such as "prompt=short n_epochs=2"."""
    return " ".join(f"{name}={value}" for name, value in variant.items()) or "as configured"


def children_of(tracking: TrackingConfig, parent: str) -> list[RunRecord]:
    """The jobs' runs of the sweep with this run id."""
    return find_runs(tracking, f"tags.`mlflow.parentRunId` = '{parent}'")


def ended(tracking: TrackingConfig, sweep: Sweep) -> list[RunRecord]:
    """Finished jobs, and those that failed since this command started; earlier failures are tried again."""
    runs = children_of(tracking, sweep.run_id)
    failed = [run for run in runs if run.status == "FAILED" and (run.ended or 0) >= sweep.started]
    return failed + [run for run in runs if run.status == "FINISHED"]
