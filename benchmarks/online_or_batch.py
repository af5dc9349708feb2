"""Whether the local provider answers faster request by request or in a batch; conf/provider/local.yaml says the winner.

    python benchmarks/online_or_batch.py --reviews 193 --rounds 2

The zero-shot prompt on the project's reviews, the ways in turn, round by round, so that a busy machine harms all alike.
"""

import argparse
import os
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import pandas as pd

from reviewtune.client import connect
from reviewtune.config import PromptArm, load_params
from reviewtune.inference import Request, Terms, ask
from reviewtune.prompts import Prompt

PROJECT = Path(__file__).parent.parent
WAYS = {"online, 16 at once": ("online", 16), "online, 64 at once": ("online", 64), "batch": ("batch", 16)}


def main() -> None:
    options = _options()
    config = load_params(PROJECT / "params.yaml")
    arm = config.arms["zero_shot"]
    assert isinstance(arm, PromptArm)
    prompt = Prompt(arm.prompt, config.data.labels)
    texts = pd.read_csv(PROJECT / config.data.path)[config.data.columns.text].tolist()[: options.reviews]
    chats = [prompt.messages(text) for text in texts]
    found: dict[str, list[float]] = defaultdict(list)
    provider = config.provider.model_copy(update={"base_model": options.base})
    with connect(provider) as client, tempfile.TemporaryDirectory() as home:
        os.environ["REVIEWTUNE_HOME"] = home  # from here on: a store of answers of its own
        for number in range(-1, options.rounds):
            for way, (mode, concurrency) in WAYS.items():
                changes = {"base_url": str(client.base_url), "concurrency": concurrency}
                settings = config.evaluation.model_copy(update={"mode": mode})
                terms = Terms.of(provider.model_copy(update=changes), settings, config.prices)
                repeat = len(WAYS) * number + list(WAYS).index(way)
                request = Request(options.base, prompt.response_format, 0, 64, 1, repeat=repeat)
                started = time.perf_counter()
                ask(terms, request, chats if number >= 0 else chats[:2], title=way)
                if number >= 0:  # the round before loads the model
                    found[way].append(len(chats) / (time.perf_counter() - started))
    for way, rates in found.items():
        print(f"{way:20} {median(rates):6.2f} reviews a second ({', '.join(f'{rate:.2f}' for rate in rates)})")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="gemma-3-270m")
    parser.add_argument("--reviews", type=int, default=193)
    parser.add_argument("--rounds", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
