"""What a team shares, as real processes on loopback: PostgreSQL, an S3 server, an MLflow server on both, a provider.

For `make test-services` alone, which installs what is needed and is not in the lock.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from tests.support.serving import running, wait_for

BUCKET = "team"
KEYS = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
PROVIDER_KEY = "of-the-team"


class Services(NamedTuple):
    """Addresses of all services."""

    database: str  # postgresql://
    s3: str
    mlflow: str
    provider: str

    def objects(self) -> dict[str, int]:
        """Keys in the bucket and their sizes in bytes."""
        import boto3

        pages = boto3.client("s3", endpoint_url=self.s3, **_for_boto()).get_paginator("list_objects_v2")
        return {entry["Key"]: entry["Size"] for page in pages.paginate(Bucket=BUCKET) for entry in page["Contents"]}

    def rows(self, query: str) -> list[Any]:
        """Read directly from MLflow's database."""
        import psycopg

        with psycopg.connect(self.database) as connection:
            return list(connection.execute(query).fetchall())


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("services")
    with ExitStack() as stack:
        database = stack.enter_context(_postgresql())
        s3 = stack.enter_context(_s3())
        keys = {**KEYS, "MLFLOW_S3_ENDPOINT_URL": s3}
        artifacts = f"s3://{BUCKET}/mlflow"
        mlflow = stack.enter_context(mlflow_server(database, artifacts, folder / "mlflow.log", keys))
        provider = stack.enter_context(
            running(folder / "account", "--base-model", str(tiny_model), api_key=PROVIDER_KEY)
        )
        yield Services(database, s3, mlflow, provider.base_url)


@contextmanager
def _postgresql() -> Iterator[str]:
    """A temporary cluster with one database, `mlflow`. PostgreSQL refuses root: then user postgres runs it."""
    programs, owner = _programs(), "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="reviewtune-pg-"))  # pytest's own folders are closed to that user
    if owner:
        shutil.chown(folder, owner)
    port, how = free_port(), {"cwd": folder, "user": owner, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    server = (
        programs / "postgres",
        "-D",
        "data",
        "-F",
        "-k",
        folder,
        "-p",
        str(port),
        "-c",
        "listen_addresses=127.0.0.1",
    )
    create = str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "team", "mlflow"
    subprocess.run([programs / "initdb", "-D", "data", "-U", "team", "-A", "trust", "-N"], check=True, **how)  # type: ignore[call-overload]
    process = subprocess.Popen(server, **how)  # type: ignore[call-overload]
    try:
        wait_for(lambda: subprocess.run(create, capture_output=True).returncode == 0)
        yield f"postgresql://team@127.0.0.1:{port}/mlflow"
    finally:
        process.send_signal(signal.SIGINT)  # "fast": open connections are closed
        process.wait(30)
        shutil.rmtree(folder)


def _programs() -> Path:
    """The folder of initdb: Debian keeps it off the PATH."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("initdb")
    if not programs and not on_path:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    return programs[-1].parent if programs else Path(str(on_path)).resolve().parent


@contextmanager
def _s3() -> Iterator[str]:
    """An S3 server in its own process, with an empty bucket."""
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed: make test-services")
    pytest.importorskip("moto", reason="moto is not installed: make test-services")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with _process([sys.executable, "-m", "moto.server", "-p", str(port)], {}, address, Path(os.devnull)):
        boto3.client("s3", endpoint_url=address, **_for_boto()).create_bucket(Bucket=BUCKET)
        yield address


@contextmanager
def mlflow_server(store: str, artifacts: str, log: Path, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run the command of docs/team.md; returns its address."""
    port = free_port()
    stores = ["--backend-store-uri", store, "--artifacts-destination", artifacts]
    command = [sys.executable, "-m", "mlflow", "server", *stores, "--port", str(port), "--workers", "1"]
    alone = {
        **(environment or {}),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }  # otherwise it starts seven more processes
    address = f"http://127.0.0.1:{port}"
    with _process(command, alone, f"{address}/health", log):
        yield address


@contextmanager
def _process(command: list[str], environment: Mapping[str, str], answers_at: str, log: Path) -> Iterator[None]:
    """A server that answers; stopped together with its children."""
    with log.open("ab") as stream:
        server = subprocess.Popen(command, env={**os.environ, **environment}, stdout=stream, stderr=stream)
    try:
        wait_for(lambda: _answers(answers_at, server), 300)
        yield
    finally:
        family = [*psutil.Process(server.pid).children(recursive=True), server]
        for process in family:
            process.terminate()
        server.wait(30)
        for process in psutil.wait_procs(family[:-1], 10)[1]:
            process.kill()


def _answers(address: str, server: "subprocess.Popen[bytes]") -> bool:
    assert server.poll() is None, f"{server.args!r} ended"
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        time.sleep(0.2)
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _for_boto() -> dict[str, Any]:
    return {name.lower().replace("aws_default_region", "region_name"): value for name, value in KEYS.items()}
