"""What a sweep over several machines needs, all on loopback: a hosted provider, an MLflow server, a Ray cluster."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.serving import wait_for

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "remote_provider.py"
# Ray notices a dead node after 15 s of silence, here after three; its workers yield to all else, here to nothing.
IMPATIENT = {"health_check_period_ms": 1000, "health_check_timeout_ms": 1000, "health_check_failure_threshold": 3}
IMPATIENT |= {"worker_niceness": 0}


class Hosted:
    """A hosted provider, and what was asked of it."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.overrides = ["provider=compatible", f"provider.base_url={base_url}", "provider.base_model=m"]
        self.overrides += ["provider.api_key_env=null"]

    @property
    def stats(self) -> dict[str, Any]:
        return dict(json.loads(read(f"{self.base_url}/stats")))


@contextmanager
def hosted(job_seconds: float) -> Iterator[Hosted]:
    command = [sys.executable, str(SCRIPT), "--job-seconds", str(job_seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Hosted(process.stdout.readline().strip())
        finally:
            process.terminate()


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """A real MLflow server; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--port", str(port), "--workers", "1"]
    address = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        alone = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # else seven processes more
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=folder, env=alone)
    try:
        wait_for(lambda: answers(f"{address}/health"), 120)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        content: bytes = answer.read()
    return content


def answers(url: str) -> bool:
    try:
        return bool(read(url))
    except OSError:
        return False


@contextmanager
def ray_cluster(head: dict[str, str]) -> Iterator[Any]:
    """A Ray cluster of one node with this environment; `add_node(...)` adds another."""
    from ray.cluster_utils import Cluster

    arguments = {"num_cpus": 2, "_system_config": IMPATIENT, "env_vars": head, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=arguments, shutdown_at_exit=True)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def power_off(node: Any) -> None:
    """Kill -9 a node and all that runs on it, as a power cut would."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    family = [raylet, *raylet.children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def workers_of(node: Any) -> set[int]:
    """Process ids of a node's workers."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return {child.pid for child in raylet.children(recursive=True)}
