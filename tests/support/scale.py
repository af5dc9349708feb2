"""What a sweep over several machines needs, on loopback: a hosted provider and a Ray cluster."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import pytest

from tests.support.loopback import served

# Ray notices a dead node after 15 s of silence, here after 3 s; its workers run at low priority, here at normal.
IMPATIENT = {"health_check_period_ms": 1000, "health_check_timeout_ms": 1000, "health_check_failure_threshold": 3}
IMPATIENT |= {"worker_niceness": 0}


class Hosted:
    """A hosted provider and the requests that it received."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.overrides = ["provider=compatible", f"provider.base_url={base_url}", "provider.base_model=m"]
        self.overrides += ["provider.api_key_env=null"]

    @property
    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.base_url}/stats", timeout=10) as answer:
            return dict(json.load(answer))


@contextmanager
def hosted(job_seconds: float) -> Iterator[Hosted]:
    with served("remote_provider.py", "--job-seconds", str(job_seconds)) as base_url:
        yield Hosted(base_url)


@pytest.fixture(scope="module")
def ray_on_loopback() -> Iterator[None]:
    """The variables of Ray's processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else a token is written into the home folder
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@contextmanager
def ray_cluster(head: dict[str, str], **options: Any) -> Iterator[Any]:
    """A Ray cluster of one node with this environment and these options; `add_node(...)` adds another."""
    from ray.cluster_utils import Cluster

    arguments = {"num_cpus": 2, "_system_config": IMPATIENT, "env_vars": head, "include_dashboard": False, **options}
    cluster = Cluster(initialize_head=True, head_node_args=arguments, shutdown_at_exit=True)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def power_off(node: Any) -> None:
    """Kill -9 a node and everything on it, as a power cut would."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    family = [raylet, *raylet.children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def works(node: Any, task: str) -> bool:
    """Whether a process of the node runs this task now: Ray names the process after it."""
    for pid in workers_of(node):
        with suppress(psutil.Error):
            if psutil.Process(pid).cmdline()[:1] == [f"ray::{task}"]:
                return True
    return False


def workers_of(node: Any) -> set[int]:
    """Process ids of a node's workers."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return {child.pid for child in raylet.children(recursive=True)}
