"""Pages of the MLflow UI: saved views of the experiment with useful columns, and links to pages.

MLflow 3 keeps a saved view in a tag of the experiment, as the JSON state of its page. The form of that state is a
private part of MLflow; other versions ignore the tag. A link must say that the runs are of machine learning, otherwise
the page shows traces of chats.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlencode

from reviewtune.tracking.queries import find_runs, tag_experiment

if TYPE_CHECKING:
    from reviewtune.core.config import TrackingConfig

NAME = "attributes.`Run Name`"
NAME_WIDTH = 320  # pixels: "#2 40.4 % (−4.7) prompt=short n_epochs=1"
CREATED_AT = 1_767_225_600_000  # ms; a view needs a date, and a fixed one keeps the tag equal

SETTINGS = ("params.`prompt.name`", "params.`training.n_epochs`", "params.`data.train_size`")


class View(NamedTuple):
    """A saved view of the experiment.

    Args:
        title: its name in the UI.
        filter: MLflow's filter of the runs.
        sort: the column by which the runs are sorted, the highest value first.
        columns: the columns in their order.
    """

    title: str
    filter: str
    sort: str
    columns: Sequence[str]


VIEWS = {  # by the end of the tag's name
    "results": View(
        title="Results, best first",
        filter="metrics.accuracy >= 0",
        sort="metrics.`accuracy`",
        columns=("metrics.`accuracy`", "metrics.`behind_best`", "metrics.`f1`", *SETTINGS, "tags.`verdict`"),
    ),
    "sweeps": View(
        title="Sweeps, newest first",
        filter="tags.kind = 'sweep'",
        sort="attributes.start_time",
        columns=("metrics.`best_accuracy`", "metrics.`variants`", "tags.`best`", "tags.`verdict`"),
    ),
}


def prepare(tracking: "TrackingConfig") -> str:
    """Add the views and the first metric of the charts, if the experiment lacks them; returns the experiment's id."""
    views = {f"mlflow.sharedViewState.{key}": _state(view) for key, view in VIEWS.items()}
    return tag_experiment(tracking, {**views, "mlflow.experiment.primaryMetric.name": "accuracy"})


def links(tracking: "TrackingConfig") -> dict[str, str]:
    """Links by title; relative, so that they fit any server."""
    runs = f"experiments/{prepare(tracking)}/runs"
    pages = {view.title: _link(runs, {"viewStateShareKey": key}) for key, view in VIEWS.items()}
    finished = [run for run in find_runs(tracking, "tags.kind = 'sweep'") if "best_run" in run.tags]
    if finished:
        pages["Newest sweep"] = _link(f"{runs}/{finished[0].id}", {})
    return pages


def compare_link(experiment: str, run_ids: Sequence[str]) -> str:
    """The page that compares these runs, in this order."""
    return _link("compare-runs", {"runs": json.dumps(run_ids), "experiments": json.dumps([experiment])})


def _link(page: str, query: Mapping[str, str]) -> str:
    return f"#/{page}?{urlencode({**query, 'workflowType': 'machine_learning'}, quote_via=quote)}"


def _state(view: View) -> str:
    """The view as MLflow keeps it: JSON that holds the state of its page as JSON."""
    state = {
        "searchFilter": view.filter,
        "orderByKey": view.sort,
        "orderByAsc": False,
        "selectedColumns": view.columns,
        "columnOrder": [NAME, *view.columns],
        "columnWidths": {NAME: NAME_WIDTH},
    }
    return json.dumps(
        {"name": view.title, "createdAt": CREATED_AT, "updatedAt": CREATED_AT, "state": json.dumps(state)}
    )
