"""`reviewtune classify FILE --out FOLDER` with a model of the local provider: without Ray, on one node and on two.

    python benchmarks/bulk_nodes.py                                   # 20,000 rows, a tiny model of random weights
    python benchmarks/bulk_nodes.py --base gemma-3-270m --rows 1000 --part-rows 100
    python benchmarks/bulk_nodes.py --ways engine command             # without Ray

Each way classifies the same rows with the zero-shot prompt: the project's reviews again and again, each with its
number. First the engine in this process, a part at once; then the command; then the command on Ray clusters of one and
two nodes on this machine, which share its cores. Seconds include the start of the command. Prints rows a second, their
share of the engine's own, and whether all commands wrote the same bytes. Ray comes with
`pip install -c requirements.lock -e '.[ray]'`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pandas as pd
from bulk import write_reviews
from own_account import own_account
from random_model import make_model
from reviews import request_for
from served_models import write_served

from reviewtune.core.config.arms import PromptArmConfig
from reviewtune.core.config.loading import load_params
from reviewtune.core.user_dirs import cache_folder
from reviewtune.data.prompts import Prompt
from reviewtune.local_server.engine.base_models.ensure import ensure
from reviewtune.local_server.engine.generation import generate

PROJECT = Path(__file__).parent.parent
TOKENIZER = "smollm2-135m-instruct"
NODES = {"one node": 1, "two nodes": 2}
WAYS = ("engine", "command", *NODES)
WARM_UP = 64  # rows, not counted: they start the provider


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        base = _base(options.base, work)
        rates = dict(_rates(base, work, options))
    for way, rate in rates.items():
        share = f", {rate / rates['engine']:.2f} of the engine's own" if "engine" in rates else ""
        print(f"{way:10} {rate:8.1f} rows a second{share}")
    if len(outs := [way for way in rates if way != "engine"]) > 1:
        print(f"the same bytes from {', '.join(outs)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="a base model of the catalogue; without it, random weights")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--part-rows", type=int, default=1_000)
    parser.add_argument("--mode", choices=("online", "batch"), default="online", help="how the provider is asked")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    return parser.parse_args()


def _base(name: str | None, work: Path) -> Path:
    if name:
        return ensure(name, cache_folder())
    return make_model("tiny", ensure(TOKENIZER, cache_folder()), work / "tiny")


def _rates(base: Path, work: Path, options: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """Each way and its rows per second.

    Raises:
        AssertionError: two commands wrote different bytes.
    """
    _write_served(base, work / "served", options.mode)
    texts = _texts()
    for name, rows in (("warm_up", WARM_UP), ("new", options.rows)):
        write_reviews(work / f"{name}.csv", texts, rows)
    if "engine" in options.ways:
        yield "engine", options.rows / _engine(base, work / "new.csv", options.part_rows)
    outs = list[Path]()
    for way in (way for way in options.ways if way != "engine"):
        on_nodes = _cluster(NODES[way], work) if way in NODES else nullcontext([])
        with own_account(base), on_nodes as words:  # another account has no answers yet
            _classify(work, "warm_up", work / f"{way} warm", [*words, "--part-rows", str(WARM_UP // 4)])
            outs.append(work / way)
            yield way, options.rows / _classify(work, "new", outs[-1], [*words, "--part-rows", str(options.part_rows)])
        assert _content(outs[-1]) == _content(outs[0]), f"{outs[-1].name} and {outs[0].name} differ"


def _write_served(base: Path, folder: Path, mode: str) -> None:
    """Write the folder of a served zero-shot prompt of the local provider."""
    config = load_params(PROJECT / "params.yaml")
    provider = {"base_model": str(base), "mode": mode}
    arms = {"zero_shot": _arm().model_copy(update={"provider": _arm().provider.model_copy(update=provider)})}
    chosen = config.model_copy(update={"provider": config.provider.model_copy(update=provider), "arms": arms})
    write_served(folder, chosen, arm="zero_shot", kind="prompt", model=str(base))


def _arm() -> PromptArmConfig:
    arm = load_params(PROJECT / "params.yaml").arms["zero_shot"]
    assert isinstance(arm, PromptArmConfig)
    return arm


def _texts() -> list[str]:
    data = load_params(PROJECT / "params.yaml").data
    return pd.read_csv(PROJECT / data.path)[data.columns.text].tolist()


def _engine(base: Path, new: Path, part_rows: int) -> float:
    """Seconds of the engine in this process."""
    prompt = Prompt(_arm().prompt, load_params(PROJECT / "params.yaml").data.labels)
    generator = generate.load(base)
    requests = [request_for(prompt, text) for text in pd.read_csv(new)["text"]]
    generator.complete(requests[:WARM_UP])  # caches the shared prefix and builds the vocabulary's tables once
    started = time.perf_counter()
    for begin in range(0, len(requests), part_rows):
        generator.complete(requests[begin : begin + part_rows])
    return time.perf_counter() - started


def _classify(work: Path, name: str, out: Path, words: list[str]) -> float:
    """Seconds of the command."""
    command = [sys.executable, "-m", "reviewtune", "classify", str(work / f"{name}.csv"), "--out", f"{out}/"]
    started = time.perf_counter()
    subprocess.run([*command, "--served-model", str(work / "served"), *words], check=True)
    return time.perf_counter() - started


@contextmanager
def _cluster(nodes: int, work: Path) -> Iterator[list[str]]:
    """The command's words for a cluster of so many nodes on this machine, each with an account of its own."""
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    from ray.cluster_utils import Cluster

    cores = os.cpu_count() or 1  # Ray gives the engine as many threads as its node has

    def settings(number: int) -> dict[str, object]:
        home = work / f"{nodes} nodes" / str(number)
        return {"num_cpus": max(1, cores // nodes), "env_vars": {"REVIEWTUNE_HOME": str(home)}}

    head = {**settings(0), "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=True)
    try:
        for number in range(1, nodes):
            cluster.add_node(**settings(number))
        cluster.wait_for_nodes()
        yield ["--on", "ray", "--address", cluster.address]
    finally:
        cluster.shutdown()


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


if __name__ == "__main__":
    main()
