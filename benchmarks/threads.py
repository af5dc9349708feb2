"""How torch's threads should wait on shared cores: OpenMP's wait policy and the number of threads.

    python benchmarks/threads.py                  # on a machine with nothing else running
    python benchmarks/threads.py --busy 4         # next to four programs that use a core each

Prints milliseconds of three kinds of work of the local provider, the median of alternating rounds: reading prompts of
128 tokens, writing one token, and a training step of 128 tokens. `passive` sleeps at once, `active` waits without end,
and a number waits actively for that many turns (GOMP_SPINCOUNT): 30,000 are about a millisecond.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from reviewtune.core.user_dirs import cache_folder

POLICIES = {
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "1000": {"GOMP_SPINCOUNT": "1000"},
    "30000": {"GOMP_SPINCOUNT": "30000"},
    "active": {"OMP_WAIT_POLICY": "active"},
}
WORK = ("read 128", "write 1", "train 128")


def main() -> None:
    options = _options()
    if options.measure:
        print(json.dumps(_measure(options.base, options.measure)))
        return
    from reviewtune.local_server.engine.base_models.ensure import ensure

    options.base = str(ensure(options.base, cache_folder()))
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)]
    try:
        results = _rounds(options)
    finally:
        for other in others:
            other.kill()
    print(f"load {os.getloadavg()[0]:.1f}, milliseconds".ljust(24) + "".join(f"{work:>12}" for work in WORK))
    for way, rounds in results.items():
        print(f"{way:24}" + "".join(f"{median(each[number] for each in rounds):12.0f}" for number in range(len(WORK))))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--busy", type=int, default=0, help="programs that use a core each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--policies", nargs="+", default=[*POLICIES], choices=POLICIES)
    parser.add_argument("--measure", nargs="+", type=int, metavar="THREADS", help=argparse.SUPPRESS)
    return parser.parse_args()


def _rounds(options: argparse.Namespace) -> dict[str, list[list[float]]]:
    """Milliseconds of each kind of work, per policy and number of threads: one process per policy and round."""
    threads = [str(count) for count in sorted({1, os.cpu_count() or 1})]
    plain = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    results: dict[str, list[list[float]]] = defaultdict(list)
    for _ in range(options.rounds):
        for policy in options.policies:
            command = [sys.executable, __file__, "--base", options.base, "--measure", *threads]
            printed = subprocess.run(command, env=plain | POLICIES[policy], check=True, stdout=subprocess.PIPE).stdout
            for count, times in json.loads(printed).items():
                results[f"{policy}, {count} thread(s)"].append(times)
    return results


def _measure(base: str, threads: list[int]) -> dict[int, list[float]]:
    import torch

    from reviewtune.local_server.engine.attention import ATTENTION
    from reviewtune.local_server.engine.forward import CachedForward
    from reviewtune.local_server.engine.model_loading import device, fast_precision, load_model

    model = load_model(Path(base), fast_precision(device()), ATTENTION)

    def read() -> Callable[[], Any]:
        return lambda: CachedForward(model, None, 4).read([[5] * 32] * 4)

    def write() -> Callable[[], Any]:
        forward = CachedForward(model, None, 1)
        forward.read([[5] * 64])
        return lambda: forward.read([[5]])

    @torch.enable_grad()
    def train() -> None:
        tokens = torch.full((4, 32), 5)
        model.network(input_ids=tokens, labels=tokens, attention_mask=torch.ones_like(tokens)).loss.backward()

    times: dict[int, list[float]] = {}
    for count in threads:
        torch.set_num_threads(count)
        model.network.set_attn_implementation(ATTENTION)
        with torch.inference_mode():
            times[count] = [_milliseconds(read(), 3), _milliseconds(write(), 10)]
        model.network.set_attn_implementation("sdpa")
        times[count].append(_milliseconds(train, 3))
    return times


def _milliseconds(work: Callable[[], object], repeats: int) -> float:
    """The median, without the first, which does one-time work."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    return median(times[1:])


if __name__ == "__main__":
    main()
