"""The jobs of a sweep on a Ray cluster: connect to it, and check that every node can run them.

When a node dies, a job (run_job.py) continues the run that the first attempt began. Hydra's side is
hydra_plugins/reviewtune_ray.py.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import section_of
from reviewtune.core.config.section import Section
from reviewtune.core.loopback import is_loopback
from reviewtune.core.project import project_root
from reviewtune.errors import ConfigError
from reviewtune.sweeps.ray_cluster import Cluster, Entrance, Node, alive, call_on, connect
from reviewtune.tracking.provenance import code_sha256

PLUGIN = "hydra_plugins.reviewtune_ray.RayLauncher"
ENTRANCE = Entrance("hydra/launcher=ray", "hydra.launcher.address=")


class Settings(Section):
    """conf/hydra/launcher/ray.yaml."""

    address: str | None
    workers: Annotated[int, Field(ge=1)] | None
    cpus_per_job: Annotated[float, Field(gt=0)] | None
    retries: Annotated[int, Field(ge=0)]


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
    connect(chosen.address, ENTRANCE, cpus=chosen.workers)
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


def _faults_of(node: Node, keys: Sequence[str]) -> list[str]:
    """Ask the node itself."""
    return call_on(node, _faults, Path.cwd(), code_sha256(project_root()), keys)


def _faults(folder: Path, code: str, keys: Sequence[str]) -> list[str]:
    """What would prevent a job on this node."""
    if not (folder / "dvc.yaml").is_file():
        return [f"no project in {folder}; every node needs the same checkout in the same place"]
    faults = []
    if code_sha256(folder) != code:
        faults.append(f"a different version of the code in {folder}; check out the same commit")
    missing = [key for key in keys if not os.environ.get(key)]
    return faults + [f"the variable {key} is not set; `export {key}=...` before `ray start`" for key in missing]
