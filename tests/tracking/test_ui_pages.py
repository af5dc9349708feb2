"""Saved views of the MLflow UI: only runs that can be compared are sorted together."""

import json
from pathlib import Path

import pytest

from reviewtune.tracking import ui_pages
from reviewtune.tracking.ui_pages import OWN_VIEWS, VIEW_TAG
from tests.support.tracking import SETTINGS, open_run, stored

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of SQLAlchemy


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)


def scored(data: str, split: str, accuracy: float, metric: str = "accuracy", kind: str = "evaluation") -> str:
    tag = "test_sha256" if metric == "accuracy" else "valid_sha256"
    with open_run(kind=kind, tags={"data": data, tag: split}) as run:
        run.metrics({metric: accuracy})
    return str(run.id)


def views() -> dict[str, dict[str, object]]:
    """The saved views by title, as MLflow's UI reads them."""
    tags = stored().get_experiment_by_name(SETTINGS.experiment).tags
    saved = [json.loads(value) for name, value in tags.items() if name.startswith(VIEW_TAG)]
    return {view["name"]: json.loads(view["state"]) for view in saved}


def runs_of(title: str) -> set[str]:
    """What MLflow finds with the filter of the view."""
    client = stored()
    experiment = client.get_experiment_by_name(SETTINGS.experiment).experiment_id
    return {run.info.run_id for run in client.search_runs([experiment], str(views()[title]["searchFilter"]))}


def test_one_view_per_data_set_and_test_split() -> None:
    first, second = scored("reviews_en", "a" * 64, 0.8), scored("reviews_en", "a" * 64, 0.7)
    korean, later = scored("reviews_ko", "b" * 64, 0.9), scored("reviews_en", "c" * 64, 0.9)
    ui_pages.prepare(SETTINGS)
    assert runs_of("Results on reviews_en, test split aaaaaaaa, best first") == {first, second}
    assert runs_of("Results on reviews_en, test split cccccccc, best first") == {later}
    assert runs_of("Results on reviews_ko, best first") == {korean}
    assert all("tags.`data`" in str(view["selectedColumns"]) for view in views().values())


def test_the_jobs_of_sweeps_are_not_mixed_with_arms_of_the_pipeline() -> None:
    job = scored("reviews_en", "a" * 64, 0.8, "validation_accuracy", "job")
    scored("reviews_en", "a" * 64, 0.9, "validation_accuracy")
    scored("reviews_ko", "b" * 64, 0.9, "validation_accuracy")
    ui_pages.prepare(SETTINGS)
    assert runs_of("Jobs of sweeps on reviews_en, best on validation first") == {job}
    assert not [title for title in views() if title.startswith("Jobs of sweeps on reviews_ko")]


def test_no_view_sorts_the_runs_of_different_reviews_by_a_score() -> None:
    for data, split in (("reviews_en", "a"), ("reviews_ko", "b"), ("reviews_en", "c"), ("it's", "d")):
        scored(data, split * 64, 0.8)
        scored(data, split * 64, 0.8, "validation_accuracy", "job")
    ui_pages.prepare(SETTINGS)
    for title, view in views().items():
        if str(view["orderByKey"]).startswith("metrics."):
            tags = [stored().get_run(run).data.tags for run in runs_of(title)]
            assert len({(tag["data"], tag.get("test_sha256"), tag.get("valid_sha256")) for tag in tags}) == 1
    assert len(views()) == 9  # one per data set and split of each kind, and the list of sweeps


def test_views_follow_the_runs_and_replace_those_of_earlier_versions() -> None:
    run = scored("reviews_en", "a" * 64, 0.8)
    client = stored()
    experiment = client.get_run(run).info.experiment_id
    client.set_experiment_tag(experiment, f"{VIEW_TAG}results", '{"name": "Results, best first", "state": "{}"}')
    client.set_experiment_tag(experiment, f"{VIEW_TAG}0123abcd", '{"name": "of a user", "state": "{}"}')
    links = ui_pages.links(SETTINGS)
    assert list(links) == ["Results on reviews_en, best first", "Sweeps, newest first"]
    assert set(views()) == {*links, "of a user"}
    client.delete_run(run)
    assert list(ui_pages.links(SETTINGS)) == ["Sweeps, newest first"]
    assert set(views()) == {"Sweeps, newest first", "of a user"}
    assert all(name.startswith(VIEW_TAG) for name in OWN_VIEWS)
