"""Sweeps over several processes and machines as a user runs them: Ray, joblib, submitit, and a search.

Real launchers, a real two-node Ray cluster on loopback, a real MLflow server. Run by `make test-scale`, which installs
the launchers; without them these tests are skipped.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import changed
from reviewtune.errors import ConfigError
from reviewtune.sweeps.ray_jobs import refuse_what_others_cannot_reach
from tests.support.scale import Hosted, hosted, power_off, ray_cluster, workers_of
from tests.support.services import mlflow_server
from tests.support.serving import ServerProcess, wait_for
from tests.support.sweep_project import environment, make_project, sweep

pytestmark = pytest.mark.usefixtures("ray_on_loopback")
HOW = "comes with `make test-scale`"
SEEDS = "training.seed=1,2,3,4,5,6"


class Place:
    """A project, and the runs in its store."""

    def __init__(self, folder: Path, home: Path, uri: str) -> None:
        self.folder, self.home, self.uri = folder, home, uri

    def sweep(self, *overrides: str, ok: bool = True) -> str:
        return sweep(self.folder, self.home, *overrides, ok=ok)

    def started(self, *overrides: str) -> subprocess.Popen[str]:
        command = [sys.executable, "stages/sweep.py", "--multirun", *overrides]
        where: dict[str, Any] = {"cwd": self.folder, "env": environment(self.folder, self.home)}
        return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **where)

    def runs(self, kind: str, filter_string: str = "") -> list[Any]:
        store = MlflowClient(self.uri)
        ids = [experiment.experiment_id for experiment in store.search_experiments()]
        both = f"tags.kind = '{kind}'" + (f" and {filter_string}" if filter_string else "")
        return list(store.search_runs(ids, both))

    def statuses(self) -> list[str]:
        return sorted(run.info.status for run in self.runs("job"))


@pytest.fixture
def place(project: Path, tmp_path: Path, base: str, home: Path) -> Place:
    folder = make_project(project, tmp_path / "project", base)
    return Place(folder, home, f"sqlite:///{folder}/mlruns/mlflow.db")


@pytest.fixture
def provider() -> Iterator[Hosted]:
    with hosted(job_seconds=2.0) as provider:
        yield provider


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the cluster's first node and of the command."""
    return tmp_path_factory.mktemp("head")


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[Any]:
    """One node with room for two jobs; a test adds its second."""
    pytest.importorskip("ray", reason=HOW)
    with ray_cluster({"REVIEWTUNE_HOME": str(home)}) as cluster:
        yield cluster


class TestRay:
    def test_a_node_dies_half_way_and_the_sweep_completes_with_nothing_done_twice(
        self, place: Place, provider: Hosted, cluster: Any, tmp_path: Path
    ) -> None:
        doomed = cluster.add_node(num_cpus=2, env_vars={"REVIEWTUNE_HOME": str(place.home)})
        store, artifacts = f"sqlite:///{tmp_path}/server.db", str(tmp_path / "artifacts")
        with mlflow_server(store, artifacts, tmp_path / "server.log") as place.uri:
            launcher = [*on(cluster), "hydra.launcher.cpus_per_job=2"]  # a job a node
            sweeping = place.started(SEEDS, *provider.overrides, *launcher, f"tracking.uri={place.uri}")
            victims = under_way_on(doomed, place, sweeping)
            power_off(doomed)
            shown = sweeping.communicate(timeout=400)[0]
            assert sweeping.returncode == 0, shown
            assert "Ray: 2 nodes, 2 jobs at once" in shown
            assert "sweep: 6/6" in shown
            assert "sweep, best first" in shown
            runs = {run.info.run_id: run for run in place.runs("job")}
            (parent,) = place.runs("sweep")
        assert [run.info.status for run in [parent, *runs.values()]] == ["FINISHED"] * 7
        assert set(victims) <= set(runs)  # begun on the dead node, ended on the other, in the same run
        assert {process_of(runs[victim]) for victim in victims}.isdisjoint(victims.values())
        stats = provider.stats
        assert (stats["jobs"], stats["jobs_of_one_key"], stats["asked_of_one_question"]) == (6, 1, 1)

    def test_each_node_trains_with_its_own_engine(self, place: Place, cluster: Any, tmp_path: Path) -> None:
        other = tmp_path / "other"
        node = cluster.add_node(num_cpus=2, env_vars={"REVIEWTUNE_HOME": str(other)})
        shown = place.sweep("training.seed=1,2", *on(cluster))
        cluster.remove_node(node)
        assert "Ray: 2 nodes, 2 jobs at once" in shown  # one per node, whatever its number of CPUs
        assert place.statuses() == ["FINISHED", "FINISHED"]
        models = [list((home / "data" / "models").iterdir()) for home in (place.home, other)]
        assert [len(trained) for trained in models] == [1, 1]

    def test_a_job_whose_process_dies_is_kept_as_failed_and_done_by_the_next_command(
        self, place: Place, provider: Hosted, cluster: Any
    ) -> None:
        command = ["training.seed=1,2", *provider.overrides, *on(cluster), "hydra.launcher.retries=0"]
        sweeping = place.started(*command)
        victim = process_of(wait_for(lambda: place.runs("job", "attributes.status = 'RUNNING'"), 300)[0])
        psutil.Process(victim).kill()
        shown = sweeping.communicate(timeout=400)[0]
        assert sweeping.returncode == 1
        assert "failed: its process ended before the job did" in shown
        assert "1 of 2 jobs failed; fix what they report, then run the same command again" in shown
        assert "Traceback" not in shown
        assert place.statuses() == ["FAILED", "FINISHED"]
        assert "1 of 2 jobs were done before" in place.sweep(*command)
        assert place.statuses() == ["FINISHED", "FINISHED"]
        assert provider.stats["jobs_of_one_key"] == 1

    def test_a_node_without_the_key_is_named_before_the_first_job(
        self, place: Place, provider: Hosted, cluster: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SCALE_KEY", "mine")  # here, and not where the node was started
        shown = place.sweep(
            "training.seed=1", *provider.overrides, "provider.api_key_env=SCALE_KEY", *on(cluster), ok=False
        )
        assert "the variable SCALE_KEY is not set; `export SCALE_KEY=...` before `ray start`" in shown
        assert "Traceback" not in shown
        assert not (place.folder / "mlruns").exists()

    def test_without_an_address_ray_runs_on_this_machine_and_ends_with_the_sweep(
        self, place: Place, provider: Hosted
    ) -> None:
        pytest.importorskip("ray", reason=HOW)
        shown = place.sweep("training.seed=1,2", *provider.overrides, "hydra/launcher=ray", "hydra.launcher.workers=2")
        assert "Ray: 1 node, 2 jobs at once" in shown
        assert place.statuses() == ["FINISHED", "FINISHED"]


@pytest.mark.parametrize(
    ("uri", "budget", "message"),
    [
        (None, None, "tracking.uri=null is on this machine only"),
        ("sqlite:////tmp/a.db", None, "is on this machine only"),
        ("http://localhost:5000", None, "a different server on each machine"),
        ("http://10.0.0.1:5000", 5.0, "evaluation.budget_usd is counted per machine"),
    ],
)
def test_what_other_machines_cannot_share_is_refused(
    config: Config, uri: str | None, budget: float | None, message: str
) -> None:
    tracking = changed(config.tracking, "test", uri=uri)
    evaluation = changed(config.evaluation, "test", budget_usd=budget)
    chosen = config.model_copy(update={"tracking": tracking, "evaluation": evaluation})
    refuse_what_others_cannot_reach(chosen, set())
    with pytest.raises(ConfigError, match=message):
        refuse_what_others_cannot_reach(chosen, {"node-2"})


def test_joblib_starts_two_jobs_and_the_engine_trains_one_at_a_time(
    project: Path, tmp_path: Path, base: str, server: ServerProcess
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason=HOW)
    place = Place(make_project(project, tmp_path / "project", base), server.data_dir.parent, "")
    before = {job.id for job in server.client.fine_tuning.jobs.list()}
    place.sweep("training.seed=71,72", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    jobs = [job for job in server.client.fine_tuning.jobs.list() if job.id not in before]
    first, second = sorted(training_times(server, job.id) for job in jobs)
    assert first[1] <= second[0]
    asked = sorted(job.created_at for job in jobs)
    assert asked[1] <= first[1] + 1  # API times are whole seconds; the second job waited for the first, as `queued`


def test_submitit_runs_each_job_in_its_own_process(place: Place, provider: Hosted) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason=HOW)
    shown = place.sweep("training.seed=1,2", *provider.overrides, "hydra/launcher=submitit_local")
    assert "sweep: 2/2" in shown
    assert place.statuses() == ["FINISHED", "FINISHED"]
    assert len({process_of(run) for run in place.runs("job")}) == 2
    assert provider.stats["jobs_of_one_key"] == 1


def test_a_search_proposes_jobs_and_continues_where_it_stopped(place: Place, provider: Hosted) -> None:
    pytest.importorskip("optuna", reason=HOW)
    search = ["experiment=search", "hydra.sweeper.n_trials=3", *provider.overrides]
    assert "a search of 3 trials" in place.sweep(*search)
    jobs = provider.stats["jobs"]
    assert place.statuses() == ["FINISHED"] * jobs
    assert f"{jobs} of 3 jobs were done before" in place.sweep(*search)
    more = place.sweep(*[word.replace("n_trials=3", "n_trials=4") for word in search])
    assert "sweep, best first" in more
    assert provider.stats["jobs_of_one_key"] == 1


def on(cluster: Any) -> list[str]:
    return ["hydra/launcher=ray", f"hydra.launcher.address={cluster.address}"]


def process_of(run: Any) -> int:
    return int(run.data.tags["process"].split(":")[-2])


def under_way_on(node: Any, place: Place, sweeping: subprocess.Popen[str]) -> dict[str, int]:
    """Runs under way on that node, once another job has ended, and their processes' ids."""

    def under_way() -> dict[str, int]:
        time.sleep(0.5)  # each look costs the store's server more than it costs a job
        assert sweeping.poll() is None, sweeping.communicate()[0]
        done = place.runs("job", "attributes.status = 'FINISHED'")
        now = place.runs("job", "attributes.status = 'RUNNING'") if done else []
        mine = workers_of(node)
        return {run.info.run_id: process_of(run) for run in now if process_of(run) in mine}

    return wait_for(under_way, 300)


def training_times(server: ServerProcess, job_id: str) -> tuple[int, int]:
    """When a job's first and its last step were reported."""
    events = server.client.fine_tuning.jobs.list_events(job_id, limit=100)
    times = [event.created_at for event in events if event.type == "metrics"]
    return min(times), max(times)
