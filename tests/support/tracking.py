"""Runs in the store of the working directory: written by reviewtune, read by MLflow's own client."""

from typing import Any

from reviewtune.core.config.config import TrackingConfig
from reviewtune.tracking import runs as tracking_runs
from reviewtune.tracking import store as tracking_store
from reviewtune.tracking.addresses import database_address

SETTINGS = TrackingConfig(experiment="reviews", uri=None)


def open_run(**options: Any) -> Any:
    return tracking_runs.open_run(SETTINGS, **{"name": "a run", "kind": "evaluation", "tags": {}, **options})


def make_run(name: str) -> None:
    with tracking_runs.open_run(SETTINGS, name=name, kind="evaluation", tags={}) as run:
        run.metrics({"accuracy": 0.5})
        run.text(name, "name.txt")


def stored() -> Any:
    """MLflow's own client on the store of the working directory."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=database_address(tracking_store.own_folder() / "mlflow.db"))
