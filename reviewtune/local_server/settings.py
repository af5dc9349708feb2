"""How the server is started: where it listens, where its account lives, which models it offers."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from reviewtune.local_server.engine.base_models import CATALOGUE
from reviewtune.local_server.logs import LogFormat


@dataclass(frozen=True, slots=True)
class Settings:
    data_dir: Path  # the account: account.db, files/, models/, jobs/, batches/
    cache_dir: Path  # converted base weights, shared by all accounts
    host: str = "127.0.0.1"
    port: int = 8000  # 0: a free one
    api_key: str | None = field(default=None, repr=False)
    base_models: tuple[str, ...] = ()  # hub names or folders, on top of the catalogue
    max_waiting: int = 1000  # chats in the queue; who comes then is told to come again later
    log_format: LogFormat = LogFormat.TEXT
    log_file: Path | None = None  # None: standard error
    log_contents: bool = False  # messages and answers in the log, too
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
        """Every base model's name, the catalogue first."""
        return tuple(dict.fromkeys((*CATALOGUE, *self.base_models)))


def share_the_cores() -> None:
    """Let torch's threads wait awake for a moment, then asleep; to be called before torch is loaded.

    A network's many short operations follow each other within microseconds: to fall asleep between them made a
    training step half as long again. Awake for good, two threads on two cores took ten times as long as soon as any
    other program wanted a core too.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "30000")
