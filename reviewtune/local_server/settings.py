"""The server's settings: where it listens, where its account is, which models it offers."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from reviewtune.local_server.engine.base_models.catalogue import CATALOGUE
from reviewtune.local_server.logs import LogFormat


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one server; `__main__` fills them from the command line."""

    data_dir: Path  # the account: account.db, files/, models/, jobs/, batches/
    cache_dir: Path  # converted base weights, shared by all accounts
    host: str = "127.0.0.1"
    port: int = 8000  # 0: any free port
    api_key: str | None = field(default=None, repr=False)
    base_models: tuple[str, ...] = ()  # hub names or folders, in addition to the catalogue
    max_waiting: int = 1000  # chats in the queue; more are refused with status 429
    log_format: LogFormat = LogFormat.TEXT
    log_file: Path | None = None  # None: standard error
    log_contents: bool = False  # also log messages and answers
    idle_exit: float | None = None  # seconds without a request or a running job; None: never

    @property
    def files(self) -> Path:
        return self.data_dir / "files"

    @property
    def jobs(self) -> Path:
        return self.data_dir / "jobs"

    @property
    def models(self) -> Path:
        return self.data_dir / "models"

    @property
    def batches(self) -> Path:
        return self.data_dir / "batches"

    @property
    def offered(self) -> tuple[str, ...]:
        """The names of all base models, those of the catalogue first."""
        return tuple(dict.fromkeys((*CATALOGUE, *self.base_models)))


def share_the_cores() -> None:
    """Let torch's threads wait actively for a moment before they sleep. Call this before torch is imported.

    A network's many short operations follow each other within microseconds. Sleeping between them made a training step
    1.5 times as long. Waiting actively without an end made two threads on two cores ten times as slow as soon as
    another program used a core.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # measured: benchmarks/threads.py


@contextmanager
def importing(package: str) -> Iterator[None]:
    """Collect no garbage during the first import of a large package, and none of what it creates later.

    All of that stays: half a million objects for torch and transformers. Looking for garbage among them took a tenth of
    the time to a server's first answer.
    """
    if package in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
