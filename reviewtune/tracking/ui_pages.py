"""Pages of the MLflow UI: saved views of the experiment, so that its columns make sense without set-up, and links.

MLflow 3 keeps a saved view in a tag of the experiment, the state of its page as JSON; other versions ignore the tag. A
link has to say that the runs are trainings, else the page opens on traces of chats.
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
MADE = 1_767_225_600_000  # a view wants a date in ms; a fixed one keeps its tag equal

# What is shown, in which order: saved view -> its name, MLflow's filter, sort key, columns.
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
    """Give the experiment its views, and the metric that its charts begin with; returns its id. Changed ones stay."""
    views = {f"mlflow.sharedViewState.{key}": _view(*view) for key, view in VIEWS.items()}
    return tag_experiment(tracking, {**views, "mlflow.experiment.primaryMetric.name": "accuracy"})


def links(tracking: "TrackingConfig") -> dict[str, str]:
    """Pages by what they show; relative, so they fit any server."""
    runs = f"experiments/{prepare(tracking)}/runs"
    found = {title: _link(runs, {"viewStateShareKey": key}) for key, (title, *_) in VIEWS.items()}
    for sweep in [run for run in find_runs(tracking, "tags.kind = 'sweep'") if "best_run" in run.tags][:1]:
        found["Newest sweep"] = _link(f"{runs}/{sweep.id}", {})
    return found


def compare_link(experiment: str, run_ids: Sequence[str]) -> str:
    """The page that holds these runs against each other, in this order."""
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
    return json.dumps({"name": name, "createdAt": MADE, "updatedAt": MADE, "state": json.dumps(state)})
