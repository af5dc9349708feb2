"""The only door to MLflow: open a run, write into it, find runs again.

Without an address the runs go to the project's own store (mlruns.py); any other address, such as http://host:5000, is
used as it is. MLflow is imported when a run is first opened: 1.4 s, and 0.5 s for opening the store, once a process.
"""

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import posixpath
import re
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import psutil

from reviewtune.errors import TrackingError
from reviewtune.tracking import store as tracking_store

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag
    from mlflow.entities import Run as StoredRun

    from reviewtune.core.config import TrackingConfig

Kind = Literal["finetune", "evaluation", "comparison", "sweep", "job"]
Item = TypeVar("Item")

METRICS_A_BATCH, PARAMS_A_BATCH = 800, 100  # MLflow's limits: 1000 together, of params and of tags 100 each
KEY_LENGTH, PARAM_LENGTH, TAG_LENGTH, DIGEST_LENGTH = 250, 6000, 8000, 36  # MLflow's too
_DATASETS: dict[tuple[str, str], "Dataset"] = {}  # by name and digest: to describe one, MLflow asks git each time
RACE = re.compile(r"unique constraint", re.IGNORECASE)  # SQLite's words and PostgreSQL's


@dataclass(frozen=True)
class RunRecord:
    """A stored run, as found by `find_runs`: the last value of each metric; `ended` in seconds since the epoch."""

    id: str
    name: str
    status: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    ended: float | None = None


@dataclass
class _Batch:
    """What waits to be written, as MLflow's entities."""

    params: list["Param"] = field(default_factory=list)
    metrics: list["Metric"] = field(default_factory=list)
    tags: dict[str, "RunTag"] = field(default_factory=dict)
    datasets: list["DatasetInput"] = field(default_factory=list)


class Run:
    """An open run. Every method writes at once, unless inside `together`; a store that refuses is a TrackingError."""

    def __init__(self, store: tracking_store.Store, run: "StoredRun") -> None:
        self.id: str = run.info.run_id
        self._store = store
        self._started: int = run.info.start_time
        self._tables: list[dict[str, str]] = json.loads(run.data.tags.get("mlflow.loggedArtifacts", "[]"))
        self._batch: _Batch | None = None  # inside `together`

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is noted meanwhile, files aside, is written in one go at its end: round trips are most of the work."""
        if self._batch is not None:
            yield
            return
        self._batch = batch = _Batch()
        try:
            yield
        except BaseException:
            self._batch = None
            with suppress(TrackingError):  # the failure itself matters more
                self._write(batch)
            raise
        self._batch = None
        self._write(batch)

    def params(self, mapping: Mapping[str, Any]) -> None:
        """Settings; nested mappings become dotted keys, and a value beyond 6000 characters its start and its hash."""
        from mlflow.entities import Param

        self._note(_Batch(params=[Param(_key(key), _shortened(_text(value))) for key, value in _flat(mapping)]))

    def metrics(self, mapping: Mapping[str, Any], step: int | None = None) -> None:
        """Numbers; nested mappings become dotted keys, None and NaN are left out, and text is a TypeError."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        numbers = [(_key(key), _number(key, value)) for key, value in _flat(mapping) if value is not None]
        self._note(
            _Batch(metrics=[Metric(key, value, now, step or 0) for key, value in numbers if not math.isnan(value)])
        )

    def series(self, table: "pd.DataFrame", step_column: str) -> None:
        """Each other column as one curve over `step_column`; empty cells are left out.

        All points carry the run's start as their time, so that writing the table again changes nothing.
        """
        from mlflow.entities import Metric

        points = table.melt(id_vars=step_column).dropna()
        rows = zip(points["variable"], points["value"], points[step_column], strict=True)
        self._note(
            _Batch(
                metrics=[
                    Metric(_key(str(key)), _number(key, value), self._started, int(step)) for key, value, step in rows
                ]
            )
        )

    def tags(self, mapping: Mapping[str, object]) -> None:
        """Text to search by; None is left out."""
        self._note(_Batch(tags=_tags(mapping)))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """A copy of the file."""
        self._store.log_artifact(self.id, str(path), folder)

    def text(self, text: str, name: str) -> None:
        """A text file."""
        self._store.log_text(self.id, text, name)

    def json(self, obj: object, name: str) -> None:
        """A JSON file."""
        self.text(json.dumps(obj, ensure_ascii=False, indent=2) + "\n", name)

    def table(self, frame: "pd.DataFrame", name: str) -> None:
        """A table that the UI can show and compare between runs; `name` ends in .json.

        MLflow's own log_table appends when a continued run writes again; this replaces.
        """
        self.text(str(frame.to_json(orient="split", index=False, date_format="iso", force_ascii=False)), name)
        entry = {"path": name, "type": "table"}
        self._tables = [*(old for old in self._tables if old != entry), entry]
        self.tags({"mlflow.loggedArtifacts": json.dumps(self._tables)})

    def dataset(self, frame: "pd.DataFrame", *, name: str, digest: str, context: str) -> None:
        """The data that the run used for `context`, such as "training"; digest is the start of the file's sha256."""
        import mlflow
        from mlflow.entities import DatasetInput, InputTag

        key = (name, digest[:DIGEST_LENGTH])
        if key not in _DATASETS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # advice on integer columns, meant for model signatures
                _DATASETS[key] = mlflow.data.from_pandas(frame, name=name, digest=key[1])._to_mlflow_entity()
        self._note(_Batch(datasets=[DatasetInput(_DATASETS[key], [InputTag("mlflow.data.context", context)])]))

    def rename(self, name: str) -> None:
        """Another name in the UI."""
        self._store.update_run(self.id, name=name)

    def end(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Close the run; `open_run` does it."""
        self._store.set_terminated(self.id, status)

    def _note(self, more: _Batch) -> None:
        if self._batch is None:
            self._write(more)
            return
        self._batch.params += more.params
        self._batch.metrics += more.metrics
        self._batch.tags |= more.tags
        self._batch.datasets += more.datasets

    def _write(self, batch: _Batch) -> None:
        parts = (
            _batches(batch.metrics, METRICS_A_BATCH),
            _batches(batch.params, PARAMS_A_BATCH),
            _batches(list(batch.tags.values()), PARAMS_A_BATCH),
        )
        for metrics, params, tags in zip_longest(*parts, fillvalue=()):
            self._store.log_batch(self.id, metrics=metrics, params=params, tags=tags)
        if batch.datasets:
            self._log_inputs(batch.datasets)

    def _log_inputs(self, datasets: list["DatasetInput"]) -> None:
        """Of two runs that name a new data set at the same moment MLflow refuses one; by then the other's is there."""
        for lost in range(len(datasets) + 1):  # each may be new, and be named first by yet another run
            try:
                self._store.log_inputs(self.id, datasets)
                return
            except TrackingError as error:
                if lost == len(datasets) or not RACE.search(str(error)):
                    raise


@contextmanager
def open_run(
    settings: "TrackingConfig",
    *,
    name: str,
    kind: Kind,
    tags: Mapping[str, object],
    parent: str | None = None,
    run_key: str | None = None,
    reopen: bool = False,
    is_new: bool = False,
) -> Iterator[Run]:
    """Open a run: it ends FINISHED, or FAILED with the message as tag `error`, or KILLED by Ctrl-C.

    With `run_key`, a run of that key whose process died (kill -9) is continued instead of a new one made; with
    `reopen` also one that ended, in whatever way (such a key must be without quotes); with `is_new` the caller knows
    that the key has no run yet. `parent` is the id of the run that this one belongs to.
    """
    store = tracking_store.open_store(settings)
    run = _earlier(store, run_key, reopen) if run_key and not is_new else None
    known = {**_standard_tags(kind), "run_key": run_key, "mlflow.parentRunId": parent, **tags}
    if run:
        run.tags(known)
    else:
        named = {tag.key: tag.value for tag in _tags(known).values()}
        run = Run(store, store.create_run(store.experiment, run_name=name, tags=named))
    try:
        yield run
    except KeyboardInterrupt:
        _end_badly(run, "KILLED", "interrupted")
        raise
    except BaseException as error:
        _end_badly(run, "FAILED", f"{type(error).__name__}: {error}")
        raise
    run.end("FINISHED")


def _earlier(store: tracking_store.Store, run_key: str, ended_too: bool) -> Run | None:
    """The newest run of that key that its process left open, or any that ended; a live process keeps its own."""
    wanted = f"tags.run_key = '{run_key}'" if ended_too else "attributes.status = 'RUNNING'"
    for run in store.search_runs([store.experiment], wanted):
        tags = run.data.tags  # compared here too: a filter cannot hold every character of a key
        mine, ended = tags.get("run_key") == run_key[:TAG_LENGTH], run.info.status != "RUNNING"
        if mine and (ended or not _alive(tags.get("process", ""))):
            if ended:
                store.update_run(run.info.run_id, status="RUNNING")
            if "error" in tags:
                store.delete_tag(run.info.run_id, "error")
            return Run(store, run)
    return None


def workspace() -> str | None:
    """This project's folder as a name among colleagues on one MLflow server; None outside of any project."""
    with suppress(TrackingError):
        return f"{socket.gethostname()}:{tracking_store.folder().parent}"
    return None


def _process() -> str:
    """This process's name on the network: a process id alone is reused."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def _alive(process: str) -> bool:
    try:
        host, pid, start = process.rsplit(":", 2)
        return host == socket.gethostname() and f"{psutil.Process(int(pid)).create_time():.0f}" == start
    except (psutil.Error, ValueError):
        return False


def _standard_tags(kind: Kind) -> dict[str, object]:
    revision = _git_revision(Path.cwd())
    stage = os.environ.get("DVC_STAGE")
    return {
        "kind": kind,
        "git_revision": revision,
        "mlflow.source.git.commit": revision,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": stage or Path(sys.argv[0]).name,
        "DVC_STAGE": stage,
        "DVC_EXP_NAME": os.environ.get("DVC_EXP_NAME"),
        "reviewtune_version": _version(),
        "python_version": platform.python_version(),
        "process": _process(),
        "workspace": workspace(),
    }


@cache
def _git_revision(folder: Path) -> str | None:
    """HEAD there; inside `dvc exp run` the experiment's baseline. Asked once a process, which runs the code that
    it started with."""
    with suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()
    return None


def _version() -> str | None:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("reviewtune")
    return None


def _end_badly(run: Run, status: Literal["FAILED", "KILLED"], message: str) -> None:
    """Note the failure where possible; the failure itself matters more than the note."""
    with suppress(TrackingError):
        run.tags({"error": message})
        run.end(status)


def _record(run: "StoredRun") -> RunRecord:
    ended = run.info.end_time / 1000 if run.info.end_time else None
    data = run.data
    return RunRecord(run.info.run_id, run.info.run_name, run.info.status, data.params, data.metrics, data.tags, ended)


def _tags(mapping: Mapping[str, object]) -> dict[str, "RunTag"]:
    from mlflow.entities import RunTag

    named = {_key(key): str(value)[:TAG_LENGTH] for key, value in mapping.items() if value is not None}
    return {key: RunTag(key, value) for key, value in named.items()}


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _key(key: str) -> str:
    """A name that MLflow accepts: other characters become -HEX, and a long name its start and its hash."""
    key = re.sub(r"[^\w.\- :/]", lambda found: f"-{ord(found[0]):x}", key)
    if posixpath.normpath(key) != key:  # MLflow reads a name as a path and refuses a//b
        key = key.replace("/", "-2f")
    return key if len(key) <= KEY_LENGTH else f"{key[:200]}-{_sha256(key)[:16]}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _shortened(value: str) -> str:
    if len(value) <= PARAM_LENGTH:
        return value
    note = f"... ({len(value)} characters, sha256 {_sha256(value)})"
    return value[: PARAM_LENGTH - len(note)] + note


def _number(key: object, value: object) -> float:
    if isinstance(value, str) or not hasattr(value, "__float__"):
        raise TypeError(f"metric {key}: {value!r} is no number")
    return float(value)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _batches(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
