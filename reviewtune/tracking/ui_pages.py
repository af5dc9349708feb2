"""Pages of the MLflow UI: saved views of the experiment with useful columns, and links to pages.

MLflow 3 keeps a saved view in a tag of the experiment, as the JSON state of its page. The form of that state is a
private part of MLflow; other versions ignore the tag. A link must say that the runs are of machine learning, otherwise
the page shows traces of chats.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from reviewtune.tracking.queries import find_runs, tag_experiment

if TYPE_CHECKING:
    from reviewtune.core.config import TrackingConfig

NAME = "attributes.`Run Name`"
NAME_WIDTH = 320  # pixels: "#2 40.4 % (−4.7) prompt=short n_epochs=1"
CREATED_AT = 1_767_225_600_000  # ms; a view needs a date, and a fixed one keeps the tag equal

# Saved view -> its name, MLflow's filter, the sort key, the columns in their order.
SETTINGS = ("params.`prompt.name`", "params.`training.n_epochs`", "params.`data.train_size`")
VIEWS = {
    "results": (
        "Results, best first",
        "metrics.accuracy >= 0",
        "metrics.`accuracy`",
        ("metrics.`accuracy`", "metrics.`behind_best`", "metrics.`f1`", *SETTINGS, "tags.`verdict`"),
    ),
    "sweeps": (
        "Sweeps, newest first",
        "tags.kind = 'sweep'",
        "attributes.start_time",
        ("metrics.`best_accuracy`", "metrics.`variants`", "tags.`best`", "tags.`verdict`"),
    ),
}


def prepare(tracking: "TrackingConfig") -> str:
    """Add the views and the first metric of the charts, if the experiment lacks them; returns the experiment's id."""
    views = {f"mlflow.sharedViewState.{key}": _view(*view) for key, view in VIEWS.items()}
    return tag_experiment(tracking, {**views, "mlflow.experiment.primaryMetric.name": "accuracy"})


def links(tracking: "TrackingConfig") -> dict[str, str]:
    """Links by title; relative, so that they fit any server."""
    runs = f"experiments/{prepare(tracking)}/runs"
    pages = {title: _link(runs, {"viewStateShareKey": key}) for key, (title, *_) in VIEWS.items()}
    finished = [run for run in find_runs(tracking, "tags.kind = 'sweep'") if "best_run" in run.tags]
    if finished:
        pages["Newest sweep"] = _link(f"{runs}/{finished[0].id}", {})
    return pages


def compare_link(experiment: str, run_ids: Sequence[str]) -> str:
    """The page that compares these runs, in this order."""
    return _link("compare-runs", {"runs": json.dumps(run_ids), "experiments": json.dumps([experiment])})


def _link(page: str, query: Mapping[str, str]) -> str:
    return f"#/{page}?{urlencode({**query, 'workflowType': 'machine_learning'}, quote_via=quote)}"


def _view(name: str, runs: str, sort: str, columns: Sequence[str]) -> str:
    state = {
        "searchFilter": runs,
        "orderByKey": sort,
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": [NAME, *columns],
        "columnWidths": {NAME: NAME_WIDTH},
    }
    return json.dumps({"name": name, "createdAt": CREATED_AT, "updatedAt": CREATED_AT, "state": json.dumps(state)})
