"""The only door to Ray: a cluster found or started, its nodes checked, calls run on it until all have ended.

A node or process that dies takes nothing with it: Ray runs its calls again elsewhere, and a call of ours (sweep_job.py)
continues the run that the first attempt began. hydra_plugins/reviewtune_ray.py is Hydra's side of it.
"""

import importlib.util
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import Field

from reviewtune.core.config import Config, Section
from reviewtune.core.config_loading import section_of
from reviewtune.core.project import project_root
from reviewtune.errors import ConfigError, JobError
from reviewtune.tracking.provenance import code_sha256

Answer = TypeVar("Answer")
Words = tuple[str, ...]  # the overrides of a job
Arguments = tuple[Any, ...]
PLUGIN = "hydra_plugins.reviewtune_ray.RayLauncher"
BUSY_SECONDS = 0.16  # CPU time, about, of a job before its training and again after it
LOOPBACK = ("localhost", "127.", "::1")


class Settings(Section):
    """conf/hydra/launcher/ray.yaml."""

    address: str | None
    workers: Annotated[int, Field(ge=1)] | None
    cpus_per_job: Annotated[float, Field(gt=0)] | None
    retries: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Node:
    """A machine of the cluster, or one of several on one machine."""

    id: str
    host: str
    cpus: float


@dataclass(frozen=True)
class Cluster:
    """Connected to and checked; this program has one."""

    cpus_per_job: float
    retries: int
    slots: int  # jobs at once
    apart: float  # seconds between the starts of the first so many jobs

    def run_all(
        self,
        function: Callable[..., Answer],
        shared: object,
        calls: Mapping[Words, Arguments],
        *,
        prepare: Callable[..., None],
    ) -> dict[Words, Answer | JobError]:
        """`function(shared, *arguments)` for each of the calls, as many at once as the cluster has room for.

        Before the first of them `prepare(shared, *arguments)`, in as many processes as will be at work: else the
        imports of one would hold up the calls of the others. An answer is a JobError where even the last retry ended
        with its process.
        """
        import ray

        # Spread: packed, as is Ray's habit, the jobs of two local engines would all wait for one of them.
        options = {"num_cpus": self.cpus_per_job, "max_retries": self.retries, "scheduling_strategy": "SPREAD"}
        everywhere, task, first = ray.put(shared), *(ray.remote(one).options(**options) for one in (function, prepare))
        some = list(calls.values())[: self.slots]
        ready = [first.remote(everywhere, *arguments) for arguments in some]
        ray.wait(ready, num_returns=len(ready))  # whatever went wrong there, the job itself says it better
        under_way = {}
        for place, (words, arguments) in enumerate(calls.items()):
            # Begun together they would end together too, and wait for the cores both times, then and in each round.
            time.sleep(self.apart if 0 < place < self.slots else 0)
            under_way[words] = task.remote(everywhere, *arguments)
        return {words: _answer(reference) for words, reference in under_way.items()}


_current: Cluster | None = None


def current() -> Cluster:
    """The cluster that `start` found."""
    if _current is None:
        raise ConfigError("hydra/launcher=ray is for `python stages/sweep.py --multirun`, whose guard connects to Ray")
    return _current


def start(settings: Mapping[str, object], configs: Sequence[Config]) -> str:
    """Connect to the cluster, or start Ray on this machine for as long as this program runs; check every node.

    Returns what there is, in words.

    Raises:
        ConfigError: no Ray here or at the address, or a node that could not run these jobs.
    """
    global _current
    chosen = section_of(Settings, settings, "hydra.launcher")
    _connect(chosen)
    nodes = alive()
    _check(nodes, configs)
    # The local engine of a node trains one model at a time: a second job there would only wait for the first.
    alone = any(config.provider.kind == "local" for config in configs)
    cpus = chosen.cpus_per_job or (min(node.cpus for node in nodes) if alone else 1.0)
    slots = sum(int(node.cpus / cpus) for node in nodes)
    if not slots:
        most = max(node.cpus for node in nodes)
        raise ConfigError(f"hydra.launcher.cpus_per_job={cpus:g}: no node has more than {most:g} CPUs; lower it")
    cores = len(nodes) * (os.cpu_count() or 1)
    _current = Cluster(cpus, chosen.retries, slots, BUSY_SECONDS / cores)
    return f"Ray: {len(nodes)} node{'s' * (len(nodes) > 1)}, {slots} job{'s' * (slots > 1)} at once"


def alive() -> list[Node]:
    """The nodes that can run jobs."""
    import ray

    up = [node for node in ray.nodes() if node["Alive"]]
    found = [Node(node["NodeID"], node["NodeManagerHostname"], node["Resources"].get("CPU", 0)) for node in up]
    return [node for node in found if node.cpus]


def _check(nodes: Sequence[Node], configs: Sequence[Config]) -> None:
    for config in configs:
        refuse_what_others_cannot_reach(config, {node.host for node in nodes} - {socket.gethostname()})
    keys = sorted({config.provider.api_key_env for config in configs if config.provider.api_key_env})
    faults = [f"{node.host}: {fault}" for node in nodes for fault in _faults_of(node, keys)]
    if faults:
        raise ConfigError(f"Ray cluster: {'; '.join(faults)}; no job was run")


def refuse_what_others_cannot_reach(config: Config, others: set[str]) -> None:
    """With nodes on other machines than this one.

    Raises:
        ConfigError: the runs' store is of this machine alone, or a cap on spending would be counted on each apart.
    """
    if not others:
        return
    who, uri = f"the Ray cluster has other machines ({', '.join(sorted(others))})", config.tracking.uri
    if not uri or not uri.startswith("http"):
        raise ConfigError(
            f"tracking.uri={uri or 'null'} is a file of this machine, and {who}: start `mlflow server --host ADDRESS` "
            "and set tracking.uri=http://ADDRESS:5000"
        )
    if (urlsplit(uri).hostname or "").startswith(LOOPBACK):
        raise ConfigError(f"tracking.uri={uri} is another server on each machine, and {who}: name the server's address")
    if config.evaluation.budget_usd is not None:
        raise ConfigError(
            f"evaluation.budget_usd is counted on each machine apart, and {who}: run the sweep on one machine, or set "
            "the cap at the provider and evaluation.budget_usd=null"
        )


def _connect(settings: Settings) -> None:
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("hydra/launcher=ray needs Ray: pip install -e '.[ray]' -c requirements.lock")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry from any part
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's habit is 15: beside anything else it would stand still
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # without it Ray warns of a change to come
    import ray

    # Without an address never attach to a cluster that happens to run: RAY_ADDRESS and a file name one.
    own: dict[str, Any] = {"num_cpus": settings.workers, "include_dashboard": False}
    where: dict[str, Any] = {"address": settings.address} if settings.address else {"address": "local", **own}
    try:
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)
    except (ConnectionError, RuntimeError, ValueError) as error:
        seen = f"hydra.launcher.address={settings.address}: no Ray cluster there ({_brief(error)})"
        hint = "`ray start --head` on one machine prints the address, `ray start --address=...` adds another"
        raise ConfigError(f"{seen}; {hint}") from error


def _faults_of(node: Node, keys: Sequence[str]) -> list[str]:
    """Ask the node itself; what it imports for that, its first job need not."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(node.id, soft=False)
    task = ray.remote(_faults).options(num_cpus=0, max_retries=0, scheduling_strategy=here)
    try:
        return list(ray.get(task.remote(Path.cwd(), code_sha256(project_root()), keys)))
    except ray.exceptions.RayError as error:
        return [
            f"it cannot run this project ({_brief(error)}); it needs this checkout, in this place, and its packages"
        ]


def _faults(folder: Path, code: str, keys: Sequence[str]) -> list[str]:
    """What stands in the way of a job on this node."""
    if not (folder / "dvc.yaml").is_file():
        return [f"no project in {folder}; every node needs the same checkout in the same place"]
    faults = []
    if code_sha256(folder) != code:
        faults.append(f"another version of the code in {folder}; bring it to the same commit")
    missing = [key for key in keys if not os.environ.get(key)]
    return faults + [f"the variable {key} is not set; `export {key}=...` before `ray start`" for key in missing]


def _answer(reference: Any) -> Any:  # noqa: ANN401 - Ray's reference, the function's answer
    """Wait for it."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        return JobError(f"its process ended before the job did: {_brief(error)}")


def _brief(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).strip()[:200]
