"""The server's settings: where it listens, where its account is, which models it offers."""

import gc
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from reviewtune.local_server.engine.base_models.catalogue import CATALOGUE
from reviewtune.local_server.logs import LogFormat

COMPILED_PRODUCTS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""Environment variables of oneDNN and of torch: how many compiled matrix products each keeps."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one server; `__main__` fills them from the command line."""

    data_dir: Path  # the account: account.db, files/, models/, jobs/, batches/
    cache_dir: Path  # converted base weights, shared by all accounts
    host: str = "127.0.0.1"
    port: int = 8000  # 0: any free port
    api_key: str | None = field(default=None, repr=False)
    base_models: tuple[str, ...] = ()  # hub names or folders, in addition to the catalogue
    aliases: Mapping[str, str] = field(default_factory=dict)  # another name -> model
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


def prepare_torch() -> None:
    """Set what torch reads when it is imported: how its threads wait, how many compiled matrix products it keeps.

    A network's many short operations follow each other within microseconds. Sleeping between them made a training step
    1.5 times as long. Waiting actively without an end made two threads on two cores ten times as slow as soon as
    another program used a core.

    Products in bf16 are compiled for their exact shapes, and each token of an answer has another one. Keeping the usual
    1,024 of them in each of two caches took 0.9 GB for a model of two layers.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # measured: benchmarks/threads.py
    for cache in COMPILED_PRODUCTS:
        os.environ.setdefault(cache, "64")  # more makes neither answers nor training faster: docs/benchmarks.md


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
