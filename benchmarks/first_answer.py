"""Seconds from starting the local provider, with converted weights, to its first answer.

    python benchmarks/first_answer.py                                   # gemma-3-270m and smollm2-135m-instruct
    python benchmarks/first_answer.py --bases gemma-3-270m --starts 9

The bases alternate, so that a busy machine affects all alike. Prints the median per base and each start; and of the
server's process the CPU seconds, which other programs affect less.
"""

import argparse
import os
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pandas as pd
from own_account import own_account, server_process

from reviewtune.core.config.arms import PromptArmConfig
from reviewtune.core.config.loading import load_params
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.core.user_dirs import cache_folder
from reviewtune.data.prompts import Prompt
from reviewtune.local_server.engine.base_models.ensure import ensure
from reviewtune.providers.client import connect

PROJECT = Path(__file__).parent.parent
BASES = ("gemma-3-270m", "smollm2-135m-instruct")
LIMIT = 7.0  # seconds


class Start(NamedTuple):
    seconds: float
    cpu_seconds: float


def main() -> None:
    options = _options()
    config = load_params(PROJECT / "params.yaml")
    arm = config.arms["zero_shot"]
    assert isinstance(arm, PromptArmConfig)
    prompt = Prompt(arm.prompt, config.data.labels)
    text = pd.read_csv(PROJECT / config.data.path)[config.data.columns.text].iloc[0]
    weights = {base: ensure(base, cache_folder()) for base in options.bases}
    starts: dict[str, list[Start]] = defaultdict(list)
    for _ in range(options.starts):
        for base, folder in weights.items():
            starts[base].append(_start(config.provider.model_copy(update={"base_model": base}), prompt, text, folder))
    print(f"load {os.getloadavg()[0]:.1f}; median seconds until the first answer (at most {LIMIT:.0f})")
    for base, each in starts.items():
        seconds = ", ".join(f"{start.seconds:.1f}" for start in each)
        cpu = median(start.cpu_seconds for start in each)
        print(f"{base:24} {median(start.seconds for start in each):5.1f} ({seconds}); {cpu:.1f} s of CPU time")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", nargs="+", default=BASES)
    parser.add_argument("--starts", type=int, default=5)
    return parser.parse_args()


def _start(provider: ProviderConfig, prompt: Prompt, text: str, weights: Path) -> Start:
    with own_account(weights):
        started = time.perf_counter()
        with connect(provider) as client:
            client.chat.completions.create(
                model=provider.base_model, messages=prompt.messages(text), temperature=0, max_completion_tokens=8
            )
            seconds = time.perf_counter() - started
        times = server_process().cpu_times()
        return Start(seconds, times.user + times.system)


if __name__ == "__main__":
    main()
