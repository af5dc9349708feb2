"""The cost of serving: the local provider over HTTP, single requests or batches, against its engine in process.

    python benchmarks/serving.py --reviews 193 --rounds 2

Prints the time from starting a server, with converted weights, to its first answer. Then asks the zero-shot prompt on
the project's reviews in each way, alternating round by round so that a busy machine affects all alike, and prints each
rate as a share of the engine's own rate, in process with all reviews at once. 16 clients that wait for their answers
never give the engine more than 16 reviews, so its rate with batches of 16 is printed too.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pandas as pd
from own_account import own_account
from reviews import request_for

from reviewtune.core.config.arms import PromptArmConfig
from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_params
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.core.user_dirs import cache_folder
from reviewtune.data.prompts import Prompt
from reviewtune.local_server.engine.base_models.ensure import ensure
from reviewtune.local_server.settings import prepare_torch
from reviewtune.providers.client import connect
from reviewtune.providers.inference import CallPolicy, Request, ask

PROJECT = Path(__file__).parent.parent
IN_PROCESS, BY_SIXTEEN, SIXTEEN_CLIENTS = "in process", "in process, 16 at a time", "16 clients at once"
OVER_HTTP = {
    SIXTEEN_CLIENTS: ("online", 16),
    "64 clients at once": ("online", 64),
    "batches endpoint": ("batch", 16),
}
LONGEST_ANSWER = 64  # tokens


def main() -> None:
    options = _options()
    config = load_params(PROJECT / "params.yaml")
    arm = config.arms["zero_shot"]
    assert isinstance(arm, PromptArmConfig)
    prompt = Prompt(arm.prompt, config.data.labels)
    texts = pd.read_csv(PROJECT / config.data.path)[config.data.columns.text].tolist()[: options.reviews]
    provider = config.provider.model_copy(update={"base_model": options.base})
    weights_folder = ensure(options.base, cache_folder())
    with own_account(weights_folder):
        rates = _rates(config, provider, prompt, texts, options.rounds)
    whole = median(rates[IN_PROCESS])
    for way, rounds in rates.items():
        each = ", ".join(f"{rate:.2f}" for rate in rounds)
        print(f"{way:24} {median(rounds):6.2f} reviews/s ({each}), {median(rounds) / whole:.2f} of the engine's own")
    share = median(rates[SIXTEEN_CLIENTS]) / median(rates[BY_SIXTEEN])
    print(f"16 clients: {share:.2f} of the engine's own for 16 at a time")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="gemma-3-270m")
    parser.add_argument("--reviews", type=int, default=193)
    parser.add_argument("--rounds", type=int, default=2)
    return parser.parse_args()


def _rates(
    config: Config, provider: ProviderConfig, prompt: Prompt, texts: list[str], rounds: int
) -> dict[str, list[float]]:
    """Reviews per second: for each way a list of rounds. Each way first asks a few, to exclude one-time work."""
    engine = _engine(provider.base_model, prompt)
    ways: dict[str, Callable[[list[str]], object]] = {IN_PROCESS: engine}
    ways[BY_SIXTEEN] = lambda texts: [engine(texts[at : at + 16]) for at in range(0, len(texts), 16)]
    rates: dict[str, list[float]] = defaultdict(list)
    started = time.perf_counter()
    with connect(provider) as client:
        client.chat.completions.create(
            model=provider.base_model, messages=prompt.messages(texts[0]), temperature=0, max_completion_tokens=8
        )
        print(f"first answer {time.perf_counter() - started:.1f} s after the start of the server")
        for number, (way, (mode, concurrency)) in enumerate(OVER_HTTP.items()):
            changes = {"base_url": str(client.base_url), "concurrency": concurrency}
            settings = config.evaluation.model_copy(update={"mode": mode})
            terms = CallPolicy.of(provider.model_copy(update=changes), settings, config.prices)
            ways[way] = _server(terms, provider.base_model, prompt, first_repeat=number * (rounds + 1))
        for number in range(-1, rounds):
            for way, work in ways.items():
                begin = time.perf_counter()
                work(texts if number >= 0 else texts[:16])
                if number >= 0:
                    rates[way].append(len(texts) / (time.perf_counter() - begin))
    return rates


def _engine(base: str, prompt: Prompt) -> Callable[[list[str]], object]:
    prepare_torch()
    from reviewtune.local_server.engine.generation import generate

    generator = generate.load(cache_folder() / base)
    return lambda texts: generator.complete([request_for(prompt, text) for text in texts])


def _server(terms: CallPolicy, base: str, prompt: Prompt, first_repeat: int) -> Callable[[list[str]], object]:
    repeats = iter(range(first_repeat, first_repeat + 100))  # cached answers would not be asked again

    def work(texts: list[str]) -> object:
        request = Request(base, prompt.response_format, 0, LONGEST_ANSWER, 1, repeat=next(repeats))
        return ask(terms, request, [prompt.messages(text) for text in texts], title="asking")

    return work


if __name__ == "__main__":
    main()
