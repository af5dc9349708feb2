"""The only module that uses Ray: connect to a cluster or start one, check its nodes, run calls on it.

Nothing is lost when a node or process dies: Ray runs its calls again elsewhere, and a job (run_job.py) continues the
run that the first attempt began. Hydra's side is hydra_plugins/reviewtune_ray.py.
"""

import importlib.util
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import section_of
from reviewtune.core.config.section import Section
from reviewtune.core.loopback import is_loopback
from reviewtune.core.project import project_root
from reviewtune.errors import ConfigError, JobError
from reviewtune.tracking.provenance import code_sha256

Result = TypeVar("Result")
Overrides = tuple[str, ...]  # of a job
Arguments = tuple[Any, ...]
PLUGIN = "hydra_plugins.reviewtune_ray.RayLauncher"


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
    """The cluster that this program is connected to, after its nodes were checked."""

    cpus_per_job: float
    retries: int

    def run_all(
        self, function: Callable[..., Result], shared: object, calls: Mapping[Overrides, Arguments]
    ) -> dict[Overrides, Result | JobError]:
        """Call `function(shared, *arguments)` for each of the calls, as many at once as the cluster has room for.

        Args:
            function: what to run in the workers' processes.
            shared: the first argument of every call; sent to each node once.
            calls: the other arguments, by a job's overrides.

        Returns:
            What each call returned; a JobError if its process died in the last retry too.
        """
        import ray

        # Ray packs tasks by default: then the jobs of two local engines would all wait for one of them. So spread them.
        options = {"num_cpus": self.cpus_per_job, "max_retries": self.retries, "scheduling_strategy": "SPREAD"}
        task, everywhere = ray.remote(function).options(**options), ray.put(shared)
        references = {overrides: task.remote(everywhere, *arguments) for overrides, arguments in calls.items()}
        return {overrides: _result(reference) for overrides, reference in references.items()}


_current: Cluster | None = None


def current() -> Cluster:
    """The cluster that `start` connected to."""
    if _current is None:
        raise ConfigError(
            "hydra/launcher=ray works only with `python stages/sweep.py --multirun`, which connects to Ray"
        )
    return _current


def start(settings: Mapping[str, object], configs: Sequence[Config]) -> str:
    """Connect to the cluster, or start Ray on this machine for as long as this program runs; check every node.

    Args:
        settings: conf/hydra/launcher/ray.yaml without `_target_`.
        configs: the configurations of all jobs.

    Returns:
        The cluster's size as a message for the user.

    Raises:
        ConfigError: no Ray here or at the address, or a node that could not run these jobs.
    """
    global _current
    chosen = section_of(Settings, settings, "hydra.launcher")
    _connect(chosen)
    nodes = alive()
    _check(nodes, configs)
    # The local engine of a node trains one model at a time, so a second job there would only wait for the first.
    one_per_node = any(config.provider.kind == "local" for config in configs)
    cpus = chosen.cpus_per_job or (min(node.cpus for node in nodes) if one_per_node else 1.0)
    slots = sum(int(node.cpus / cpus) for node in nodes)
    if not slots:
        most = max(node.cpus for node in nodes)
        raise ConfigError(f"hydra.launcher.cpus_per_job={cpus:g}: no node has more than {most:g} CPUs; lower it")
    _current = Cluster(cpus, chosen.retries)
    return f"Ray: {len(nodes)} node{'s' * (len(nodes) > 1)}, {slots} job{'s' * (slots > 1)} at once"


def alive() -> list[Node]:
    """The nodes that can run jobs."""
    import ray

    up = [node for node in ray.nodes() if node["Alive"]]
    nodes = [Node(node["NodeID"], node["NodeManagerHostname"], node["Resources"].get("CPU", 0)) for node in up]
    return [node for node in nodes if node.cpus]


def _check(nodes: Sequence[Node], configs: Sequence[Config]) -> None:
    for config in configs:
        refuse_what_others_cannot_reach(config, {node.host for node in nodes} - {socket.gethostname()})
    keys = sorted({config.provider.api_key_env for config in configs if config.provider.api_key_env})
    faults = [f"{node.host}: {fault}" for node in nodes for fault in _faults_of(node, keys)]
    if faults:
        raise ConfigError(f"Ray cluster: {'; '.join(faults)}; no job was run")


def refuse_what_others_cannot_reach(config: Config, others: set[str]) -> None:
    """Refuse settings that work only on one machine, if the cluster has others.

    Raises:
        ConfigError: the runs' store is on this machine, or there is a cap on spending, which each machine counts alone.
    """
    if not others:
        return
    who, uri = f"the Ray cluster has other machines ({', '.join(sorted(others))})", config.tracking.uri
    if not uri or not uri.startswith("http"):
        raise ConfigError(
            f"tracking.uri={uri or 'null'} is on this machine only, and {who}: start `mlflow server --host ADDRESS` "
            "and set tracking.uri=http://ADDRESS:5000"
        )
    if is_loopback(uri):
        raise ConfigError(
            f"tracking.uri={uri} is a different server on each machine, and {who}: give the server's address"
        )
    if config.evaluation.budget_usd is not None:
        raise ConfigError(
            f"evaluation.budget_usd is counted per machine, and {who}: run the sweep on one machine, or set "
            "the cap at the provider and evaluation.budget_usd=null"
        )


def _connect(settings: Settings) -> None:
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("hydra/launcher=ray needs Ray: pip install -e '.[ray]' -c requirements.lock")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default 15 starves workers when the machine is busy
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # without it Ray warns about a future change
    import ray

    # Without an address, do not connect to a running cluster that RAY_ADDRESS or Ray's own file names.
    own: dict[str, Any] = {"num_cpus": settings.workers, "include_dashboard": False}
    where: dict[str, Any] = {"address": settings.address} if settings.address else {"address": "local", **own}
    try:
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)
    except (ConnectionError, RuntimeError, ValueError) as error:
        seen = f"hydra.launcher.address={settings.address}: no Ray cluster there ({_brief(error)})"
        hint = "`ray start --head` on one machine prints the address, `ray start --address=...` adds another"
        raise ConfigError(f"{seen}; {hint}") from error


def _faults_of(node: Node, keys: Sequence[str]) -> list[str]:
    """Ask the node itself."""
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
    """What would prevent a job on this node."""
    if not (folder / "dvc.yaml").is_file():
        return [f"no project in {folder}; every node needs the same checkout in the same place"]
    faults = []
    if code_sha256(folder) != code:
        faults.append(f"a different version of the code in {folder}; check out the same commit")
    missing = [key for key in keys if not os.environ.get(key)]
    return faults + [f"the variable {key} is not set; `export {key}=...` before `ray start`" for key in missing]


def _result(reference: Any) -> Any:  # noqa: ANN401 - Ray's reference, the function's result
    """Wait for the call to end."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        return JobError(f"its process ended before the job did: {_brief(error)}")


def _brief(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).strip()[:200]
