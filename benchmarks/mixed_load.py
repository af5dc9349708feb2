"""Whether the local provider loses, mixes up or delays answers under a mixed load, while it trains and runs batches.

    python benchmarks/mixed_load.py                       # smollm2-135m-instruct, 64 clients, 60 seconds
    python benchmarks/mixed_load.py --base FOLDER --clients 16

Each client asks in one of six ways, again and again with short pauses: a word that only this request can get
(json_schema), a short text, a long streamed text, a function that must be called, a completion, and a response. A
fine-tune runs meanwhile, and batches of 20 lines one after the other. Prints per way the number of answers, those with
a wrong word, errors, and the seconds of an answer; then the batches, the training's steps and the server's memory.
busy_server.py measures the wait for the first token.
"""

import argparse
import asyncio
import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import openai
from own_account import own_account, server_process

from reviewtune.core.config.loading import load_params
from reviewtune.core.user_dirs import cache_folder
from reviewtune.local_server.engine.base_models.ensure import ensure
from reviewtune.providers.client import connect

PROJECT = Path(__file__).parent.parent
ASK = "Tell me about parcels."
LINES = 20  # of a batch
EXAMPLES = 200
Way = Callable[[openai.AsyncOpenAI, str, str], Awaitable[str]]


def schema_of(word: str) -> dict[str, Any]:
    """A schema that allows one word only."""
    properties = {"word": {"const": word}}
    return {"type": "object", "properties": properties, "required": ["word"], "additionalProperties": False}


async def own_word(api: openai.AsyncOpenAI, model: str, word: str) -> str:
    form: Any = {"type": "json_schema", "json_schema": {"name": "w", "schema": schema_of(word)}}
    messages: Any = [{"role": "user", "content": f"Say {word}."}]
    answer = await api.chat.completions.create(model=model, messages=messages, response_format=form)
    return str(json.loads(answer.choices[0].message.content or "{}").get("word"))


async def short_text(api: openai.AsyncOpenAI, model: str, word: str) -> str:
    messages: Any = [{"role": "user", "content": f"{ASK} {word}"}]
    await api.chat.completions.create(model=model, messages=messages, max_completion_tokens=16)
    return word


async def long_stream(api: openai.AsyncOpenAI, model: str, word: str) -> str:
    messages: Any = [{"role": "user", "content": f"{ASK} {word}"}]
    asked = api.chat.completions.create(model=model, messages=messages, max_completion_tokens=200, stream=True)
    reasons = [chunk.choices[0].finish_reason async for chunk in await asked]
    return word if reasons[-1] in ("stop", "length") else "no end"


async def tool(api: openai.AsyncOpenAI, model: str, word: str) -> str:
    function: Any = {"type": "function", "function": {"name": "say", "parameters": schema_of(word)}}
    messages: Any = [{"role": "user", "content": f"Say {word}."}]
    answer = await api.chat.completions.create(model=model, messages=messages, tools=[function], tool_choice="required")
    (call,) = answer.choices[0].message.tool_calls or []
    return str(json.loads(call.function.arguments)["word"]) if call.type == "function" else "no function"


async def completion(api: openai.AsyncOpenAI, model: str, word: str) -> str:
    answer = await api.completions.create(model=model, prompt=word, max_tokens=16, echo=True)
    return answer.choices[0].text[: len(word)]


async def response(api: openai.AsyncOpenAI, model: str, word: str) -> str:
    answer = await api.responses.create(model=model, input=f"{ASK} {word}", max_output_tokens=32, metadata={"w": word})
    return str((answer.metadata or {}).get("w"))


WAYS: dict[str, Way] = {
    "own word": own_word,
    "short text": short_text,
    "long stream": long_stream,
    "function": tool,
    "completion": completion,
    "response": response,
}


class Results:
    """What the clients saw."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.wrong: dict[str, int] = defaultdict(int)
        self.errors: dict[str, list[str]] = defaultdict(list)
        self.batches = self.lines = self.memory = 0
        self.training = ""

    def print(self) -> None:
        print("way          answers wrong errors median s  95 % s highest s")
        for way in WAYS:
            taken = sorted(self.seconds[way]) or [0.0]
            middle, high, last = (taken[min(len(taken) - 1, int(len(taken) * share))] for share in (0.5, 0.95, 1))
            counts = f"{len(self.seconds[way]):7} {self.wrong[way]:5} {len(self.errors[way]):6}"
            print(f"{way:12} {counts} {middle:8.2f} {high:7.2f} {last:9.2f}")
        for way, errors in self.errors.items():
            for error in errors[:1]:
                print(f"{way}: {error}")
        print(f"{self.batches} batches of {LINES} lines, {self.lines} answered")
        print(f"{self.training}; the server took at most {self.memory / 2**20:.0f} MB")


def main() -> None:
    options = _options()
    weights_folder = ensure(options.base, cache_folder())
    provider = load_params(PROJECT / "params.yaml").provider.model_copy(update={"base_model": options.base})
    with own_account(weights_folder), connect(provider) as client:
        results = asyncio.run(_session(str(client.base_url), options))
    print(f"load {os.getloadavg()[0]:.1f}; {options.clients} clients, {options.seconds:.0f} s, {options.base}")
    results.print()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--pause", type=float, default=1, help="mean seconds between an answer and the next question")
    return parser.parse_args()


async def _session(address: str, options: argparse.Namespace) -> Results:
    results = Results()
    async with openai.AsyncOpenAI(base_url=address, api_key="local", max_retries=0, timeout=600) as api:
        await short_text(api, options.base, "first")  # loads the model
        await _train(api, options.base)
        deadline = time.perf_counter() + options.seconds
        clients = [_client(api, options, number, deadline, results) for number in range(options.clients)]
        batches = asyncio.create_task(_batches(api, options.base, deadline, results))
        await asyncio.gather(*clients, _watch(deadline, results))
        await _end_training(api, results)
        await batches  # lines are answered while no client waits, so they may all be left
    return results


async def _client(
    api: openai.AsyncOpenAI, options: argparse.Namespace, number: int, deadline: float, results: Results
) -> None:
    draw, way, asked = random.Random(number), list(WAYS)[number % len(WAYS)], 0
    while time.perf_counter() < deadline:
        await asyncio.sleep(draw.uniform(0, 2 * options.pause))
        word, started = f"word-{number}-{asked}", time.perf_counter()
        asked += 1
        try:
            got = await WAYS[way](api, options.base, word)
        except openai.OpenAIError as error:
            results.errors[way].append(f"{type(error).__name__}: {error}"[:200])
            continue
        results.seconds[way].append(time.perf_counter() - started)
        results.wrong[way] += got != word


async def _upload(api: openai.AsyncOpenAI, lines: list[Any], purpose: Literal["batch", "fine-tune"]) -> str:
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return (await api.files.create(file=("lines.jsonl", content), purpose=purpose)).id


async def _train(api: openai.AsyncOpenAI, base: str) -> None:
    lines = [
        {"messages": [{"role": "user", "content": f"case {n}"}, {"role": "assistant", "content": f"label {n % 7}"}]}
        for n in range(EXAMPLES)
    ]
    file = await _upload(api, lines, "fine-tune")
    numbers: Any = {"n_epochs": 50}
    await api.fine_tuning.jobs.create(model=base, training_file=file, hyperparameters=numbers)


async def _end_training(api: openai.AsyncOpenAI, results: Results) -> None:
    job = (await api.fine_tuning.jobs.list(limit=1)).data[0]
    events: list[Any] = (await api.fine_tuning.jobs.list_events(job.id, limit=100)).data
    steps = max((event.data["step"] for event in events if event.type == "metrics"), default=0)
    results.training = f"the training: {job.status}, {steps} steps"
    if job.status in ("running", "queued", "validating_files"):
        await api.fine_tuning.jobs.cancel(job.id)


async def _batches(api: openai.AsyncOpenAI, base: str, deadline: float, results: Results) -> None:
    """Batches one after the other; the last one is waited for."""
    while time.perf_counter() < deadline:
        results.batches += 1
        body: Any = {"model": base, "messages": [{"role": "user", "content": ASK}], "max_completion_tokens": 8}
        url: Any = "/v1/chat/completions"
        lines = [{"custom_id": str(n), "method": "POST", "url": url, "body": body} for n in range(LINES)]
        file = await _upload(api, lines, "batch")
        batch = await api.batches.create(input_file_id=file, endpoint=url, completion_window="24h")
        while batch.status not in ("completed", "failed"):
            await asyncio.sleep(0.5)
            batch = await api.batches.retrieve(batch.id)
        results.lines += batch.request_counts.completed if batch.request_counts else 0


async def _watch(deadline: float, results: Results) -> None:
    process = server_process()
    while time.perf_counter() < deadline:
        results.memory = max(results.memory, process.memory_info().rss)
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    main()
