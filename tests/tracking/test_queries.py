"""Find stored runs again, and the command that shows them."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.entities import ViewType

from reviewtune.core.config.config import TrackingConfig
from reviewtune.errors import TrackingError
from reviewtune.tracking import queries
from reviewtune.tracking.addresses import database_address
from tests.support.tracking import SETTINGS, stored

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of SQLAlchemy


def test_the_runs_of_a_pass_are_found_by_its_id(moved_project: Path) -> None:
    first, second = (run.id for run in queries.find_runs(SETTINGS)[:2])
    stored().delete_run(queries.find_runs(SETTINGS)[3].id)
    assert queries.add_to_pass(SETTINGS, [first, second, "no-such-run", "f" * 32], "aa11") == [first, second]
    assert queries.add_to_pass(SETTINGS, [first], "bb22") == [first]
    assert queries.add_to_pass(SETTINGS, [first], "bb22") == [first]
    assert {run.id for run in queries.find_runs(SETTINGS, "tags.passes LIKE '%aa11%'")} == {first, second}
    (run,) = queries.find_runs(SETTINGS, "tags.passes LIKE '%bb22%'")
    assert run.tags["passes"] == "aa11,bb22"
    for number in range(3):
        queries.add_to_pass(SETTINGS, [first], str(number) * 3000)
    passes = stored().get_run(first).data.tags["passes"].split(",")
    assert [len(name) for name in passes] == [3000, 3000]


def test_deleting_runs_leaves_other_things_that_are_marked_as_deleted(moved_project: Path) -> None:
    """They can still be restored in MLflow, and no trace of the deletion is left."""
    client, (first, second, *_) = stored(), queries.find_runs(SETTINGS)
    experiment = client.create_experiment("of a colleague")
    model = client.create_logged_model(client.get_run(first.id).info.experiment_id).model_id
    client.delete_logged_model(model)
    client.delete_experiment(experiment)
    client.delete_run(second.id)
    queries.delete_runs(SETTINGS, [first.id])
    assert [each.name for each in client.search_experiments(view_type=ViewType.DELETED_ONLY)] == ["of a colleague"]
    assert client.get_run(second.id).info.lifecycle_stage == "deleted"
    with closing(sqlite3.connect(moved_project / "mlruns" / "mlflow.db")) as database:
        assert database.execute("SELECT model_id FROM logged_models").fetchall() == [(model,)]
        assert not database.execute("SELECT 1 FROM runs WHERE run_uuid = ?", (first.id,)).fetchall()


def test_a_bad_filter_is_one_line(moved_project: Path) -> None:
    with pytest.raises(TrackingError, match=r"MLflow store .*mlflow.db: Invalid") as caught:
        queries.find_runs(SETTINGS, "this is not a filter")
    assert "\n" not in str(caught.value)


def test_the_ui_is_loopback_and_on_this_store(moved_project: Path) -> None:
    command = queries.ui_command(SETTINGS, port=5005)
    assert command[1:4] == ["-m", "mlflow", "server"]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5005"
    assert command[command.index("--backend-store-uri") + 1] == database_address(moved_project / "mlruns" / "mlflow.db")
    with pytest.raises(TrackingError, match=r"the runs are on http://\*\*\*@host:1: open"):
        queries.ui_command(TrackingConfig(experiment="x", uri="http://me:secret@host:1"))
