"""Make the parts of blocks on a Ray cluster: a block is a task, which Ray runs again elsewhere if its node dies.

Only this program reads the files and writes the parts and the manifest, so nodes share no folder, and a part that was
made twice is written once. Ray Data is not used: it would cut its own blocks, and knows neither the manifest nor when a
part was finished. With tasks, a part stays the unit of work, of retries and of continuing.
"""

import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from reviewtune.analyzer.classifier import Classifier, Weights
from reviewtune.bulk.blocks import Block
from reviewtune.bulk.part_maker import Made, MakeParts, PartMaker, Place
from reviewtune.bulk.parts import Part
from reviewtune.core.formatting import counted
from reviewtune.core.terminal.progress import SILENT, Progress, Silent, Step
from reviewtune.errors import ConfigError, JobError, ReviewtuneError
from reviewtune.providers.address import VARIABLES, key_variable
from reviewtune.providers.answer_cache import BorrowedStore, LentStore, borrow, default_path
from reviewtune.providers.budget import join, scope
from reviewtune.providers.local.import_model import add_to_account
from reviewtune.sweeps.ray_cluster import Cluster, Entrance, Node, alive, call_on, connect, disconnect

ENTRANCE = Entrance("--on ray", "--address ")
RETRIES = 3  # of a part whose node or process died
SAME = ("pyarrow", "scikit-learn", "numpy")  # packages on which the content of a part depends
SHOWN = 3


@dataclass(frozen=True)
class Order:
    """What every task needs to make parts as this program would.

    Args:
        maker: makes them.
        store: this program's cache of answers; None: the model needs no provider.
        scope: of the budget, which all share.
        environment: addresses of providers by variable; None: the variable is not set, which means the usual address.
        weights: of a model of the local provider, with the files of its adapter by name.
    """

    maker: PartMaker
    store: BorrowedStore | None
    scope: str
    environment: Mapping[str, str | None]
    weights: tuple[Weights, Mapping[str, bytes]] | None


class Done(NamedTuple):
    """What a task returns.

    Attributes:
        host: where it ran.
        result: the part, or why there is none.
        messages: for the user.
    """

    host: str
    result: Part | ReviewtuneError
    messages: tuple[str, ...]


@contextmanager
def on_ray(classifier: Classifier, address: str | None, progress: Progress = SILENT) -> Iterator[MakeParts]:
    """Connect to a cluster, or start Ray on this machine for the block, and check every node.

    Args:
        classifier: what classifies.
        address: of the cluster; None: start Ray.
        progress: receives the size of the cluster.

    Raises:
        ConfigError: Ray is not installed, there is no cluster, or a node cannot do this.
    """
    connect(address, ENTRANCE)
    try:
        nodes = alive()
        _check(nodes, classifier)
        cluster = Cluster(_cpus_per_part(nodes, classifier), RETRIES)
        most = _most(cluster, classifier)
        progress.message(f"Ray: {counted(len(nodes), 'node')}, {counted(most, 'part')} at once")
        yield _maker_of_parts(cluster, most)
    finally:
        disconnect()


def _maker_of_parts(cluster: Cluster, most: int) -> MakeParts:
    def make(maker: PartMaker, named: Iterator[tuple[str, Block]], progress: Progress, step: Step) -> Iterator[Made]:
        order, faults = _order(maker, cluster, most), list[ReviewtuneError]()
        calls = ((Place.of(name, block), (block,)) for name, block in takewhile(lambda _: not faults, named))
        for place, done in cluster.as_they_end(make_part_of, order, calls, lambda: _under_way(cluster, maker, most)):
            try:
                part = _part(place, done, progress)
            except ReviewtuneError as error:
                if not _divides_limits(maker.classifier):
                    raise
                faults.append(error)  # raised at the end: what other nodes have asked is paid for, and must be kept
                progress.message(f"{place.name} failed; no other part is begun, those under way may finish")
                continue
            step(part.rows)
            yield place, part
        if faults:
            raise faults[0]

    return make


def _part(place: Place, done: Done | JobError, progress: Progress) -> Part:
    """The part that a task made.

    Raises:
        ReviewtuneError: it made none.
    """
    if isinstance(done, JobError):
        raise JobError(f"{place.name}: {done}; the finished parts are kept: run the same command again to continue")
    for message in done.messages:
        progress.message(f"{place.name}: {message}")
    if isinstance(done.result, ReviewtuneError):
        where = "" if done.host == socket.gethostname() else f"on {done.host}: "
        raise type(done.result)(f"{where}{done.result}")
    return done.result


def make_part_of(order: Order, block: Block) -> Done:
    """The task: in a process of any node."""
    messages = Messages()
    try:
        _prepare(order)
        result: Part | ReviewtuneError = order.maker.part(block, order.maker.outcomes(block, messages))
    except ReviewtuneError as error:
        result = error
    return Done(socket.gethostname(), result, tuple(messages.texts))


class Messages(Silent):
    """Keeps messages for the program that shows them."""

    def __init__(self) -> None:
        self.texts = list[str]()

    def message(self, text: str) -> None:
        self.texts.append(text)


def _prepare(order: Order) -> None:
    """Use the cache, the budget and the addresses of the program that gave the order."""
    for name, value in order.environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    join(order.scope)
    if order.store is not None:
        borrow(order.store)
    if order.weights is not None:
        weights, files = order.weights
        _add_weights(weights.model, weights.base, tuple(files.items()))


@cache
def _add_weights(model: str, base: str, files: tuple[tuple[str, bytes], ...]) -> None:
    """Let this node's local provider answer with these weights; once per process."""
    with tempfile.TemporaryDirectory(prefix="reviewtune-weights-") as folder:
        for name, content in files:
            (Path(folder) / name).write_bytes(content)
        add_to_account(model, base, Path(folder))


def _order(maker: PartMaker, cluster: Cluster, most: int) -> Order:
    classifier, store, weights = maker.classifier, None, None
    if classifier.policy is None:
        classifier.open()  # so that all nodes have the same fitted model
    else:
        path = default_path()
        store = BorrowedStore(path, cluster.kept_here(LentStore, path))
    if classifier.weights is not None:
        adapter = classifier.weights.adapter
        weights = classifier.weights, {path.name: path.read_bytes() for path in adapter.iterdir() if path.is_file()}
    if _divides_limits(classifier):
        classifier = classifier.shared_by(most)
    addresses = {name: os.environ.get(name) for name in VARIABLES.values()}
    return Order(replace(maker, classifier=classifier), store, scope(), addresses, weights)


def _in_own_engine(classifier: Classifier) -> bool:
    """Whether the local provider of each node answers."""
    policy = classifier.policy
    return policy is not None and policy.provider.kind == "local" and policy.provider.base_url is None


def _divides_limits(classifier: Classifier) -> bool:
    """Whether all nodes ask one provider, whose limits they must keep together."""
    return classifier.policy is not None and not _in_own_engine(classifier)


def _cpus_per_part(nodes: list[Node], classifier: Classifier) -> float:
    """An engine uses all CPUs of its node; other parts need one."""
    return min(node.cpus for node in nodes) if _in_own_engine(classifier) else 1.0


def _most(cluster: Cluster, classifier: Classifier) -> int:
    """Parts at once."""
    slots, policy = max(cluster.slots(), 1), classifier.policy
    return min(slots, policy.provider.concurrency) if policy and _divides_limits(classifier) else slots


def _under_way(cluster: Cluster, maker: PartMaker, most: int) -> int:
    """Tasks under way: one more than run at once, so that no node waits, but not if they divide a provider's limits."""
    return most if _divides_limits(maker.classifier) else cluster.slots() + 1


def _check(nodes: list[Node], classifier: Classifier) -> None:
    """Refuse a cluster with a node that would classify in another way.

    Raises:
        ConfigError: with the faults of all such nodes.
    """
    if not nodes:
        raise ConfigError("Ray cluster: no node has a CPU; start one with `ray start --num-cpus=1` or more")
    name = None if classifier.policy is None else key_variable(classifier.policy.provider)
    key = name if name and os.environ.get(name) else None
    packages = {package: version(package) for package in SAME}
    faults = [f"{node.host}: {fault}" for node in nodes for fault in call_on(node, faults_of, code(), packages, key)]
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise ConfigError(f"Ray cluster: {'; '.join(faults[:SHOWN])}{more}; nothing was asked")


def faults_of(wanted: str, packages: Mapping[str, str], key: str | None) -> list[str]:
    """What would make a part of this node a different one.

    Args:
        wanted: `code()` of the program.
        packages: versions of packages by name.
        key: the variable with the provider's key; None: it needs none.
    """
    faults = []
    if code() != wanted:
        faults.append("another version of reviewtune; install the same one")
    for name, there in packages.items():
        if (here := version(name)) != there:
            faults.append(f"{name} {here} instead of {there}; install the same one")
    if key and not os.environ.get(key):
        faults.append(f"the variable {key} is not set; `export {key}=...` before `ray start`")
    return faults


@cache
def code() -> str:
    """Hash of the source files of the installed reviewtune."""
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()
