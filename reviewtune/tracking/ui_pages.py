"""Pages of the MLflow UI: saved views of the experiment with useful columns, and links to pages.

Only runs that can be compared are sorted together: there is one view per data set and test split, and one of the jobs
of sweeps per data set and validation split.

MLflow 3 keeps a saved view in a tag of the experiment, as the JSON state of its page. The form of that state is a
private part of MLflow; other versions ignore the tag. A link must say that the runs are of machine learning, otherwise
the page shows traces of chats.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import quote, urlencode

from reviewtune.tracking.queries import find_runs, replace_experiment_tags, tag_experiment
from reviewtune.tracking.runs import RunRecord

if TYPE_CHECKING:
    from reviewtune.core.config.config import TrackingConfig

NAME = "attributes.`Run Name`"
NAME_WIDTH = 320  # pixels: "#2 40.4 % (−4.7) prompt=short n_epochs=1"
CREATED_AT = 1_767_225_600_000  # ms; a view needs a date, and a fixed one keeps the tag equal
VIEW_TAG = "mlflow.sharedViewState."
OWN_VIEWS = tuple(f"{VIEW_TAG}{kind}" for kind in ("results", "jobs", "sweeps"))  # how this project's tags begin
MOST = 10  # views of one kind, those of the newest data
SHORT = 8  # shown digits of a hash

VALIDATED_JOB = "tags.kind = 'job' and metrics.validation_accuracy >= 0"  # an arm of the pipeline has that metric too
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


class Reviews(NamedTuple):
    """The reviews that runs were scored on: name of the data set, and hash of the split."""

    data: str
    sha256: str


SWEEPS = View(
    title="Sweeps, newest first",
    filter="tags.kind = 'sweep'",
    sort="attributes.start_time",
    columns=(
        "tags.`data`", "metrics.`best_validation_accuracy`", "metrics.`test_accuracy`", "metrics.`variants`",
        "tags.`best`", "tags.`verdict`",
    ),
)  # fmt: skip


def prepare(tracking: "TrackingConfig") -> str:
    """Bring the saved views up to date with the runs; returns the experiment's id."""
    return _save(tracking, _views(tracking))


def links(tracking: "TrackingConfig") -> dict[str, str]:
    """Links by title; relative, so that they fit any server."""
    views = _views(tracking)
    runs = f"experiments/{_save(tracking, views)}/runs"
    pages = {view.title: _link(runs, {"viewStateShareKey": key}) for key, view in views.items()}
    finished = [run for run in find_runs(tracking, "tags.kind = 'sweep'") if "best_run" in run.tags]
    if finished:
        pages["Newest sweep"] = _link(f"{runs}/{finished[0].id}", {})
    return pages


def _save(tracking: "TrackingConfig", views: Mapping[str, View]) -> str:
    replace_experiment_tags(
        tracking, {f"{VIEW_TAG}{key}": _state(view) for key, view in views.items()}, beginning=OWN_VIEWS
    )
    return tag_experiment(tracking, {"mlflow.experiment.primaryMetric.name": "accuracy"})


def _views(tracking: "TrackingConfig") -> dict[str, View]:
    """All views, by the end of the tag's name."""
    on_test = _scored(find_runs(tracking, "metrics.accuracy >= 0"), "test_sha256")
    validated = _scored(find_runs(tracking, VALIDATED_JOB), "valid_sha256")
    views = {_key("results", reviews): _results(reviews, title) for reviews, title in _titles(on_test, "test").items()}
    for reviews, title in _titles(validated, "validation").items():
        views[_key("jobs", reviews)] = _jobs(reviews, title)
    return {**views, "sweeps": SWEEPS}


def _scored(runs: Iterable[RunRecord], tag: str) -> list[Reviews]:
    """The different reviews of these runs, newest first; a filter of MLflow cannot hold both kinds of quotes."""
    reviews = dict.fromkeys(Reviews(run.tags.get("data", ""), run.tags.get(tag, "")) for run in runs)
    usable = [each for each in reviews if each.data and each.sha256 and not ("'" in each.data and '"' in each.data)]
    return usable[:MOST]


def _titles(groups: Sequence[Reviews], split: Literal["test", "validation"]) -> dict[Reviews, str]:
    """The data set's name, with the split where the data set has several."""
    names = [group.data for group in groups]
    return {
        group: f"{group.data}, {split} split {group.sha256[:SHORT]}" if names.count(group.data) > 1 else group.data
        for group in groups
    }


def _results(reviews: Reviews, title: str) -> View:
    return View(
        title=f"Results on {title}, best first",
        filter=f"metrics.accuracy >= 0 and {_same(reviews, 'test_sha256')}",
        sort="metrics.`accuracy`",
        columns=("tags.`data`", "metrics.`accuracy`", "metrics.`f1`", "tags.`arm`", *SETTINGS),
    )


def _jobs(reviews: Reviews, title: str) -> View:
    scores = ("metrics.`validation_accuracy`", "metrics.`behind_best`", "metrics.`validation_macro_f1`")
    return View(
        title=f"Jobs of sweeps on {title}, best on validation first",
        filter=f"{VALIDATED_JOB} and {_same(reviews, 'valid_sha256')}",
        sort="metrics.`validation_accuracy`",
        columns=("tags.`data`", *scores, *SETTINGS, "tags.`verdict`"),
    )


def _same(reviews: Reviews, tag: str) -> str:
    """MLflow's filter for the runs that were scored on these reviews."""
    mark = '"' if "'" in reviews.data else "'"
    return f"tags.data = {mark}{reviews.data}{mark} and tags.{tag} = '{reviews.sha256}'"


def _key(kind: str, reviews: Reviews) -> str:
    return f"{kind}-{hashlib.sha256(' '.join(reviews).encode()).hexdigest()[:12]}"


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
