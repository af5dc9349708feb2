"""The cost of `reviewtune serve-app`: its throughput against the bare provider, and its memory over many requests.

    python benchmarks/app_serving.py                              # a provider that answers after 0.2 s
    python benchmarks/app_serving.py --delay 0                    # one that answers at once: the cost of a request
    python benchmarks/app_serving.py --real smollm2-135m-instruct # the local provider
    python benchmarks/app_serving.py --requests 20000             # memory after 2,000 and after 20,000 requests

For each number of clients, the same reviews are sent to the provider and to the service, alternating round by round
so that a busy machine affects both alike. Each client sends its next request when it has its answer. The service and
its clients share the machine with the provider.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import IO, Any, NamedTuple

import aiohttp
import pandas as pd
import psutil
from served_models import write_served

from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_params
from reviewtune.core.user_dirs import cache_folder
from reviewtune.evaluation.subject import ModelSubject

PROJECT = Path(__file__).parent.parent
LABELS = {f"label-{number}": "one of ten" for number in range(10)}  # what loopback.py answers
FIRST, WARM_UP = 2_000, 64  # requests


class Round(NamedTuple):
    """What came of one: the last answers arrive after its end, and are counted."""

    answers: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.answers / self.seconds


class Target(NamedTuple):
    """Where requests go: an address, and the body for each review."""

    url: str
    bodies: list[bytes]


def main() -> None:
    options = _options()
    config = load_params(PROJECT / "params.yaml")
    with ExitStack() as running, tempfile.TemporaryDirectory() as home:
        provider = running.enter_context(_real(options.real) if options.real else _loopback(options.delay))
        config = _asking(config, provider, options.real)
        folder = Path(home) / "model"
        fields = {"model": config.provider.base_model, "wanted_accuracy": 0.95}
        write_served(folder, config, arm="finetuned", kind="finetuned", **fields)
        process, address = running.enter_context(_service(folder, Path(home)))
        reviews = _reviews(config, options.real)
        bare, service = _bare(config, provider, reviews), _app(address, reviews)
        if options.requests:
            asyncio.run(_memory(service, process, options.requests))
        else:
            asyncio.run(_compare(bare, service, process, options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay", type=float, default=0.2, help="seconds before each answer of the provider")
    parser.add_argument("--real", metavar="BASE", help="ask this base model of the local provider instead")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=5.0, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, help="measure the memory over so many requests instead")
    return parser.parse_args()


async def _compare(bare: Target, service: Target, process: psutil.Process, options: argparse.Namespace) -> None:
    print("clients  provider/s  service/s  share  CPU ms   (medians of the rounds; CPU: the service's, per request)")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for clients in options.clients:
            rounds, used, answers = [], 0.0, 0
            for target in (bare, service):
                await _ask(session, target, clients=clients, requests=WARM_UP)
            for _ in range(options.rounds):
                here = await _round(session, bare, clients, options.seconds)
                before = _cpu(process)
                there = await _round(session, service, clients, options.seconds)
                used, answers = used + _cpu(process) - before, answers + there.answers
                rounds.append((here.rate, there.rate))
            shares = [there / here for here, there in rounds]
            rates = [median(rate) for rate in zip(*rounds, strict=True)]
            each = ", ".join(f"{share:.2f}" for share in shares)
            cpu = 1000 * used / answers
            numbers = f"{rates[0]:10.1f}  {rates[1]:9.1f}  {median(shares):5.2f}  {cpu:6.2f}"
            print(f"{clients:7}  {numbers}   ({each})", flush=True)


def _cpu(process: psutil.Process) -> float:
    """Seconds of CPU time so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def _round(session: aiohttp.ClientSession, target: Target, clients: int, seconds: float) -> Round:
    started = time.perf_counter()
    answers = await _ask(session, target, clients=clients, seconds=seconds)
    return Round(answers, time.perf_counter() - started)


async def _ask(
    session: aiohttp.ClientSession,
    target: Target,
    *,
    clients: int,
    requests: int | None = None,
    seconds: float = float("inf"),
) -> int:
    """Send requests until so many are sent or so much time has passed; the number of answers."""
    left = iter(range(requests if requests is not None else sys.maxsize))
    end = time.perf_counter() + seconds

    async def client() -> int:
        count = 0
        while time.perf_counter() < end and (number := next(left, None)) is not None:
            body = target.bodies[number % len(target.bodies)]
            async with session.post(target.url, data=body, headers={"content-type": "application/json"}) as response:
                content = await response.read()
                if response.status != 200 or b"label" not in content or b'"label":null' in content:
                    raise SystemExit(f"HTTP {response.status}: {content[:300]!r}")
            count += 1
        return count

    return sum(await asyncio.gather(*(client() for _ in range(clients))))


async def _memory(service: Target, process: psutil.Process, requests: int) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        done = 0
        for goal in (FIRST, *range(max(FIRST, requests // 4), requests + 1, requests // 4)):
            done += await _ask(session, service, clients=64, requests=goal - done)
            print(f"{done:7} requests: {process.memory_info().rss / 2**20:.1f} MiB", flush=True)


def _asking(config: Config, base_url: str, real: str | None) -> Config:
    """The configuration with this provider, and with the labels of loopback.py unless the provider is a real one."""
    changes: dict[str, Any] = {"kind": "compatible", "base_url": base_url, "api_key_env": None, "concurrency": 64}
    changes |= {"base_model": real or "loopback", "structured_output": real is not None, "label_scores": "none"}
    provider = {"provider": config.provider.model_copy(update=changes)}
    arms = {name: arm.model_copy(update=provider) for name, arm in config.arms.items() if hasattr(arm, "provider")}
    data = config.data if real else config.data.model_copy(update={"labels": LABELS})
    return config.model_copy(update={**provider, "arms": arms, "data": data})


def _reviews(config: Config, real: str | None) -> list[str]:
    if real is None:
        return [f"label-{number % 10} once more, order {number}" for number in range(500)]
    texts: list[str] = pd.read_csv(PROJECT / config.data.path)[config.data.columns.text].tolist()
    return texts


def _bare(config: Config, base_url: str, reviews: list[str]) -> Target:
    """The requests that the service sends."""
    subject = ModelSubject.of_finetuned(config.provider.base_model, config)
    subject = replace(subject, asking=subject.asking.model_copy(update={"label_scores": "none", "repeats": 0}))
    bodies = [subject.policy.body(subject.request, chat) for chat in subject.chats(reviews)]
    return Target(f"{base_url}/chat/completions", [json.dumps(body).encode() for body in bodies])


def _app(address: str, reviews: list[str]) -> Target:
    return Target(f"{address}/classify", [json.dumps({"text": review}).encode() for review in reviews])


@contextmanager
def _loopback(delay: float) -> Iterator[str]:
    command = [sys.executable, str(PROJECT / "benchmarks" / "loopback.py"), "--delay", str(delay)]
    with _process(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout.readline().decode().strip()


@contextmanager
def _real(base: str) -> Iterator[str]:
    """The local provider with a separate account, but the converted weights of the user's cache."""
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "cache").mkdir()
        if (weights := cache_folder() / base).exists():
            (Path(home) / "cache" / base).symlink_to(weights)
        command = [sys.executable, "-m", "reviewtune.local_server", "--port", "0", "--data-dir", f"{home}/data"]
        with _process(command, env=os.environ | {"REVIEWTUNE_HOME": home}, stderr=subprocess.DEVNULL):
            announced = Path(home) / "data" / "server.json"
            while not announced.exists():
                time.sleep(0.1)
            yield json.loads(announced.read_text())["base_url"]


@contextmanager
def _service(folder: Path, home: Path) -> Iterator[tuple[psutil.Process, str]]:
    """A ready service, and its address."""
    log = home / "log"
    command = [sys.executable, "-m", "reviewtune", "serve-app", "--port", "0", "--served-model", str(folder)]
    command += ["--max-queue", "1000", "--timeout", "120"]
    with log.open("wb") as stderr, _process(command, stderr=stderr) as process:
        while (
            not (found := re.search(r'"serving", "address": "(.+?)"', log.read_text()))
            or '"ready"' not in log.read_text()
        ):
            if process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.1)
        yield psutil.Process(process.pid), found[1]


@contextmanager
def _process(
    command: list[str],
    *,
    stdout: int | None = None,
    stderr: int | IO[bytes] | None = None,
    env: dict[str, str] | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=env)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


if __name__ == "__main__":
    main()
