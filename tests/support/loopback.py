"""The benchmark's server in its own process: it answers after a fixed time and counts what it served."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


class Loopback:
    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    @property
    def served(self) -> int:
        return self._stats()["served"]

    @property
    def most_under_way(self) -> int:
        return self._stats()["most_under_way"]

    def _stats(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.base_url}/stats") as answer:
            stats: dict[str, int] = json.load(answer)
        return stats


@contextmanager
def loopback(delay: float) -> Iterator[Loopback]:
    with served("loopback.py", "--delay", str(delay)) as base_url:
        yield Loopback(base_url)


@contextmanager
def served(script: str, *words: str) -> Iterator[str]:
    """A server of benchmarks/; ready once it has printed its base URL."""
    command = [sys.executable, str(BENCHMARKS / script), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
