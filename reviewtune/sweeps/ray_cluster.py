"""The only module that uses Ray: connect to a cluster or start one, ask its nodes, run calls on it.

Nothing is lost when a node or process dies: Ray runs its calls again elsewhere. The jobs of a sweep on Ray are in
ray_jobs.py, the parts of `reviewtune classify --on ray` in reviewtune/bulk/on_ray.py.
"""

import importlib.util
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

from reviewtune.errors import ConfigError, JobError, installing

Result = TypeVar("Result")
Key = TypeVar("Key")
Object = TypeVar("Object")
Overrides = tuple[str, ...]  # of a job
Arguments = tuple[Any, ...]
LOOK_SECONDS = 5.0  # between two looks whether any node is left
KNOCK_SECONDS = 10.0  # until a cluster must accept a connection


class Entrance(NamedTuple):
    """How a user asks for Ray, for messages.

    Attributes:
        option: that chooses Ray.
        address: how the address is given, up to its value.
    """

    option: str
    address: str


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

    def slots(self) -> int:
        """How many calls run at once now."""
        return sum(int(node.cpus / self.cpus_per_job) for node in alive())

    def as_they_end(
        self,
        function: Callable[..., Result],
        shared: object,
        calls: Iterable[tuple[Key, Arguments]],
        most: Callable[[], int],
    ) -> Iterator[tuple[Key, Result | JobError]]:
        """Call `function(shared, *arguments)` for each of any number of calls; yields each result when it is there.

        Args:
            function: what to run in the workers' processes.
            shared: the first argument of every call; sent to each node once.
            calls: the other arguments, each with what it is known by; taken only when there is room for one.
            most: how many calls may be under way.

        Yields:
            What is known of a call, and what it returned; a JobError if its process died in the last retry too.

        Raises:
            JobError: no node is left.
        """
        import ray

        options = {"num_cpus": self.cpus_per_job, "max_retries": self.retries, "scheduling_strategy": "SPREAD"}
        task, everywhere, waiting = ray.remote(function).options(**options), ray.put(shared), iter(calls)
        under_way = dict[Any, Key]()
        while True:
            while len(under_way) < most() and (call := next(waiting, None)) is not None:
                under_way[task.remote(everywhere, *call[1])] = call[0]
            if not under_way:
                return
            ended, _ = ray.wait([*under_way], timeout=LOOK_SECONDS)
            for reference in ended:
                yield under_way.pop(reference), _result(reference)
            if not ended and not self.slots():
                raise JobError(
                    "no node of the Ray cluster is left that can run this; start one, or leave Ray out, and run the "
                    "same command again to continue"
                )

    def kept_here(self, kind: Callable[..., Object], *arguments: object) -> Object:
        """An object that lives on this node for as long as this program; processes of all nodes may call its methods.

        Args:
            kind: its class.
            *arguments: of its class.
        """
        import ray

        here = _only_on(ray.get_runtime_context().get_node_id())
        actor = ray.remote(kind).options(num_cpus=0, scheduling_strategy=here).remote(*arguments)
        return cast(Object, _Distant(actor))


class _Distant:
    """Passes the calls of an object's methods to the process in which it lives, and waits for what they return."""

    def __init__(self, actor: Any) -> None:  # noqa: ANN401 - Ray's handle
        self._actor = actor

    def __reduce__(self) -> tuple[type["_Distant"], tuple[Any]]:
        return _Distant, (self._actor,)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        import ray

        method = getattr(self._actor, name)
        return lambda *arguments: ray.get(method.remote(*arguments))


def alive() -> list[Node]:
    """The nodes that can run jobs."""
    import ray

    up = [node for node in ray.nodes() if node["Alive"]]
    nodes = [Node(node["NodeID"], node["NodeManagerHostname"], node["Resources"].get("CPU", 0)) for node in up]
    return [node for node in nodes if node.cpus]


def refuse_without_ray(entrance: Entrance) -> None:
    """Refuse to continue if Ray is not installed.

    Raises:
        ConfigError: with the command that installs it.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(f"{entrance.option} needs Ray: {installing('ray')}")


def connect(address: str | None, entrance: Entrance, *, cpus: int | None = None) -> None:
    """Connect to a cluster, or start Ray on this machine for as long as this program runs.

    Args:
        address: of the cluster; None: start Ray.
        entrance: how the user asked for it.
        cpus: calls at once if Ray is started; None: one per core.

    Raises:
        ConfigError: no Ray here or at the address.
    """
    refuse_without_ray(entrance)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default 15 starves workers when the machine is busy
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # without it Ray warns about a future change
    import ray

    # Without an address, do not connect to a running cluster that RAY_ADDRESS or Ray's own file names.
    own: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False}
    where: dict[str, Any] = {"address": address} if address else {"address": "local", **own}
    try:
        _knock(address)
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)
    except (OSError, RuntimeError, ValueError) as error:
        seen = f"{entrance.address}{address}: no Ray cluster there ({_brief(error)})"
        hint = "`ray start --head` on one machine prints the address, `ray start --address=...` adds another"
        raise ConfigError(f"{seen}; {hint}") from error


def _knock(address: str | None) -> None:
    """Try the address, because Ray itself tries for minutes.

    Raises:
        OSError: nobody listens there.
    """
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), KNOCK_SECONDS).close()


def disconnect() -> None:
    """Leave the cluster; one that `connect` started ends."""
    import ray

    ray.shutdown()


def call_on(node: Node, function: Callable[..., list[str]], *arguments: object) -> list[str]:
    """Call a function that returns faults on one node; the fault if it cannot run there."""
    import ray

    task = ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=_only_on(node.id))
    try:
        return list(ray.get(task.remote(*arguments)))
    except ray.exceptions.RayError as error:
        return [
            f"it cannot run this project ({_brief(error)}); it needs this checkout, in this place, and its packages"
        ]


def _only_on(node_id: str) -> Any:  # noqa: ANN401 - Ray has no types
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id, soft=False)


def _result(reference: Any) -> Any:  # noqa: ANN401 - Ray's reference, the function's result
    """Wait for the call to end."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return JobError(f"it failed: {_brief(error)}")
    except ray.exceptions.RayError as error:
        return JobError(f"its process ended before the job did: {_brief(error)}")


def _brief(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).strip()[:200]
