"""How long clients wait for the first token while the local provider is busy with a long answer and with each other.

    python benchmarks/busy_server.py                                   # smollm2-135m-instruct
    python benchmarks/busy_server.py --base gemma-3-270m
    python benchmarks/busy_server.py --pause 0                         # every client asks again at once

One client asks for an answer of 1,000 tokens. For 20 seconds 50 clients ask meanwhile, half of them for the label of a
review and half for a text of 16 tokens, each after pauses of random length. Prints the median and the highest wait for
the first token, and how many answers there were.
"""

import argparse
import asyncio
import os
import random
import time
from pathlib import Path
from statistics import median
from typing import Any

import openai
import pandas as pd
from own_account import own_account

from reviewtune.core.config.arms import PromptArmConfig
from reviewtune.core.config.loading import load_params
from reviewtune.core.user_dirs import cache_folder
from reviewtune.data.prompts import Prompt
from reviewtune.local_server.engine.base_models.ensure import ensure
from reviewtune.providers.client import connect

PROJECT = Path(__file__).parent.parent
LONG = "Tell me everything that you know about parcels and how they are delivered."
LIMIT = 3.0  # seconds that no client should wait


def main() -> None:
    options = _options()
    weights_folder = ensure(options.base, cache_folder())
    config = load_params(PROJECT / "params.yaml")
    provider = config.provider.model_copy(update={"base_model": options.base})
    arm = config.arms["zero_shot"]
    assert isinstance(arm, PromptArmConfig)
    prompt = Prompt(arm.prompt, config.data.labels)
    texts = pd.read_csv(PROJECT / config.data.path)[config.data.columns.text].tolist()
    with own_account(weights_folder), connect(provider) as client:
        waits, written = asyncio.run(_session(str(client.base_url), options, prompt, texts))
    print(f"load {os.getloadavg()[0]:.1f}; {len(waits)} answers in {options.seconds} s, the long one {written} tokens")
    print(f"first token after {median(waits):.2f} s (median), {max(waits):.2f} s (highest; limit {LIMIT:.0f} s)")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--pause", type=float, default=10, help="mean seconds between an answer and the next question")
    return parser.parse_args()


async def _session(
    address: str, options: argparse.Namespace, prompt: Prompt, texts: list[str]
) -> tuple[list[float], int]:
    """Seconds until the first token of each answer, and the tokens of the long answer that were written meanwhile."""
    async with openai.AsyncOpenAI(base_url=address, api_key="local", max_retries=0, timeout=600) as api:
        ask: Any = {"model": options.base, "temperature": 0}
        label: Any = {"response_format": prompt.response_format, "max_completion_tokens": 64}
        await api.chat.completions.create(messages=prompt.messages(texts[0]), **ask, **label)  # loads the model
        written: list[str] = []
        long = asyncio.create_task(_write(api, ask | {"max_completion_tokens": 1000}, written))
        deadline = time.perf_counter() + options.seconds
        waits: list[float] = []

        async def client(number: int) -> None:
            draw = random.Random(number)
            more = label if number % 2 else {"max_completion_tokens": 16}
            while time.perf_counter() < deadline:
                await asyncio.sleep(draw.uniform(0, 2 * options.pause))
                if time.perf_counter() < deadline:
                    messages = prompt.messages(draw.choice(texts))
                    waits.append(await _seconds_to_first_token(api, ask | more | {"messages": messages}))

        await asyncio.gather(*map(client, range(options.clients)))
        long.cancel()
        return waits, len(written)


async def _write(api: openai.AsyncOpenAI, ask: dict[str, Any], written: list[str]) -> None:
    messages: Any = [{"role": "user", "content": LONG}]
    async for chunk in await api.chat.completions.create(messages=messages, stream=True, **ask):
        written += [choice.delta.content for choice in chunk.choices if choice.delta.content]


async def _seconds_to_first_token(api: openai.AsyncOpenAI, ask: dict[str, Any]) -> float:
    started = time.perf_counter()
    first = None
    async for chunk in await api.chat.completions.create(stream=True, **ask):
        if first is None and chunk.choices and chunk.choices[0].delta.content:
            first = time.perf_counter() - started
    return first if first is not None else time.perf_counter() - started


if __name__ == "__main__":
    main()
