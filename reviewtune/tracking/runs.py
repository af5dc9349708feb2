"""Write MLflow runs: `with open_run(...) as run`. queries.py reads them back.

Without tracking.uri the runs go to the project's own store (store.py); any other address, such as http://host:5000, is
used as it is. MLflow is imported when a run is first opened, because that takes 1.4 s per process; opening the store
takes 0.5 s.
"""

import json
import math
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reviewtune.errors import TrackingError
from reviewtune.tracking import store as tracking_store
from reviewtune.tracking.entities import (
    DIGEST_LENGTH,
    METRICS_PER_BATCH,
    PARAMS_PER_BATCH,
    TAG_LENGTH,
    batches,
    flatten,
    metric_number,
    param_text,
    tag_entities,
    valid_name,
)
from reviewtune.tracking.process import is_running, standard_tags, workspace

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag
    from mlflow.entities import Run as StoredRun

    from reviewtune.core.config.config import TrackingConfig

RunKind = Literal["finetune", "evaluation", "comparison", "sweep", "job", "monitoring", "audit"]

_DATASETS: dict[tuple[str, str], "Dataset"] = {}  # by name and digest: MLflow calls git for each description
NAME_LENGTH = 250  # characters of a name that every store of MLflow takes
UNIQUE_CONSTRAINT = re.compile(r"unique constraint", re.IGNORECASE)  # in the errors of SQLite and PostgreSQL


@dataclass(frozen=True)
class RunKey:
    """Identifies a run across processes, so that `open_run` can continue it instead of creating another one.

    Args:
        text: what is stored in the run's tag `run_key`.
        continues: which earlier run with this key is continued. "killed": one whose process died without ending it.
            "any": also one that ended, in whatever way; the text must then contain no quotes. "none": no run, because
            the caller knows that there is none; this saves a query.
        own_folder: an open run of another project folder is not continued: on a shared server somebody may be at it,
            and whether a process of another machine runs cannot be seen from here.
    """

    text: str
    continues: Literal["killed", "any", "none"] = "killed"
    own_folder: bool = False


@dataclass(frozen=True)
class RunRecord:
    """A stored run as `find_runs` returns it: the last value of each metric; `ended` is in Unix seconds."""

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
    """An open run. Every method writes immediately, except inside `together`; it raises TrackingError if that fails."""

    def __init__(self, store: tracking_store.Store, run: "StoredRun") -> None:
        self.id: str = run.info.run_id
        self._store = store
        self._started: int = run.info.start_time
        self._tables: list[dict[str, str]] = json.loads(run.data.tags.get("mlflow.loggedArtifacts", "[]"))
        self._batch: _Batch | None = None  # inside `together`

    @contextmanager
    def together(self) -> Iterator[None]:
        """Collect everything but files and write it at the end: few requests, since round trips take most time."""
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
        """Log settings. Nested mappings become dotted names; a value that is too long is cut and gets a hash."""
        from mlflow.entities import Param

        self._note(_Batch(params=[Param(valid_name(key), param_text(value)) for key, value in flatten(mapping)]))

    def metrics(self, mapping: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers. Nested mappings become dotted names; None and NaN are left out.

        Raises:
            TypeError: a value is not a number.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        numbers = {name: metric_number(name, value) for name, value in flatten(mapping) if value is not None}
        known = {name: value for name, value in numbers.items() if not math.isnan(value)}
        self._note(_Batch(metrics=[Metric(valid_name(name), value, now, step or 0) for name, value in known.items()]))

    def series(self, table: "pd.DataFrame", step_column: str) -> None:
        """Log each other column as one curve over `step_column`; empty cells are left out.

        All points have the run's start as their time, so that writing the table again changes nothing.
        """
        from mlflow.entities import Metric

        cells = table.melt(id_vars=step_column).dropna()
        points = [
            Metric(valid_name(str(name)), metric_number(name, value), self._started, int(step))
            for name, value, step in zip(cells["variable"], cells["value"], cells[step_column], strict=True)
        ]
        self._note(_Batch(metrics=points))

    def tags(self, mapping: Mapping[str, object]) -> None:
        """Set tags, by which runs can be searched; None is left out."""
        self._note(_Batch(tags=tag_entities(mapping)))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a copy of the file."""
        self._store.log_artifact(self.id, str(path), folder)

    def text(self, text: str, name: str) -> None:
        """Store a text file."""
        self._store.log_text(self.id, text, name)

    def json(self, obj: object, name: str) -> None:
        """Store a JSON file."""
        self.text(json.dumps(obj, ensure_ascii=False, indent=2) + "\n", name)

    def table(self, frame: "pd.DataFrame", name: str) -> None:
        """Store a table that the UI can show and compare between runs; `name` ends in .json.

        MLflow's own log_table would append when a continued run writes its table again; this replaces it.
        """
        self.text(str(frame.to_json(orient="split", index=False, date_format="iso", force_ascii=False)), name)
        entry = {"path": name, "type": "table"}
        self._tables = [*(old for old in self._tables if old != entry), entry]
        self.tags({"mlflow.loggedArtifacts": json.dumps(self._tables)})

    def dataset(self, frame: "pd.DataFrame", *, name: str, digest: str, context: str) -> None:
        """Log the data that the run used for `context`, such as "training"; `digest` is the file's SHA-256."""
        import mlflow
        from mlflow.entities import DatasetInput, InputTag

        key = (name, digest[:DIGEST_LENGTH])
        if key not in _DATASETS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a hint on integer columns, meant for model signatures
                _DATASETS[key] = mlflow.data.from_pandas(frame, name=name, digest=key[1])._to_mlflow_entity()
        self._note(_Batch(datasets=[DatasetInput(_DATASETS[key], [InputTag("mlflow.data.context", context)])]))

    def rename(self, name: str) -> None:
        """Change the name in the UI."""
        self._store.update_run(self.id, name=name[:NAME_LENGTH])

    def end(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Close the run; `open_run` calls it."""
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
            batches(batch.metrics, METRICS_PER_BATCH),
            batches(batch.params, PARAMS_PER_BATCH),
            batches(list(batch.tags.values()), PARAMS_PER_BATCH),
        )
        for metrics, params, tags in zip_longest(*parts, fillvalue=()):
            self._store.log_batch(self.id, metrics=metrics, params=params, tags=tags)
        if batch.datasets:
            self._log_inputs(batch.datasets)

    def _log_inputs(self, datasets: list["DatasetInput"]) -> None:
        """Log the data sets, again if another run registered one of them at the same moment.

        MLflow then refuses the request, but by the next attempt that data set exists.
        """
        for failures in range(len(datasets) + 1):  # each one may be new, and registered first by a different run
            try:
                self._store.log_inputs(self.id, datasets)
                return
            except TrackingError as error:
                if failures == len(datasets) or not UNIQUE_CONSTRAINT.search(str(error)):
                    raise


@contextmanager
def open_run(
    settings: "TrackingConfig",
    *,
    name: str,
    kind: RunKind,
    tags: Mapping[str, object],
    parent: str | None = None,
    run_key: RunKey | None = None,
) -> Iterator[Run]:
    """Open a run; it ends as FINISHED, or as FAILED with the message in the tag `error`, or as KILLED after Ctrl-C.

    Args:
        settings: the section `tracking`.
        name: the run's name in the UI.
        kind: the tag `kind`.
        tags: further tags; None is left out.
        parent: id of the run that this one belongs to.
        run_key: continue an earlier run with this key if there is one.
    """
    store = tracking_store.open_store(settings)
    run = _earlier(store, run_key) if run_key else None
    all_tags = {**standard_tags(kind), "run_key": run_key and run_key.text, "mlflow.parentRunId": parent, **tags}
    if run:
        run.tags(all_tags)
    else:
        texts = {tag.key: tag.value for tag in tag_entities(all_tags).values()}
        run = Run(store, store.create_run(store.experiment, run_name=name[:NAME_LENGTH], tags=texts))
    try:
        yield run
    except KeyboardInterrupt:
        _end_with_error(run, "KILLED", "interrupted")
        raise
    except BaseException as error:
        _end_with_error(run, "FAILED", f"{type(error).__name__}: {error}")
        raise
    run.end("FINISHED")


def _earlier(store: tracking_store.Store, key: RunKey) -> Run | None:
    """Reopen the newest run that `key.continues` allows; the run of a live process is never taken over."""
    if key.continues == "none":
        return None
    query = f"tags.run_key = '{key.text}'" if key.continues == "any" else "attributes.status = 'RUNNING'"
    for stored in store.search_runs([store.experiment], query):
        tags, ended = stored.data.tags, stored.info.status != "RUNNING"
        # Compared here too, because a filter cannot hold every character of a key.
        same_key = tags.get("run_key") == key.text[:TAG_LENGTH]
        others = key.own_folder and tags.get("workspace") not in (None, workspace())
        if same_key and (ended or not (others or is_running(tags.get("process", "")))):
            return _reopened(store, stored)
    return None


def _reopened(store: tracking_store.Store, stored: "StoredRun") -> Run:
    run_id = stored.info.run_id
    if stored.info.status != "RUNNING":
        store.update_run(run_id, status="RUNNING")
    if "error" in stored.data.tags:
        store.delete_tag(run_id, "error")
    return Run(store, stored)


def _end_with_error(run: Run, status: Literal["FAILED", "KILLED"], message: str) -> None:
    """Note the failure if the store allows it: the failure itself matters more than the note."""
    with suppress(TrackingError):
        run.tags({"error": message})
        run.end(status)
