"""How the service runs: its address, its key and its limits."""

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from reviewtune.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class AppSettings:
    """Settings of one service process.

    Args:
        host: the address to listen on.
        port: its port; 0 picks a free one.
        api_key: every request to `/classify` and `/metrics` must carry it; None: none is asked for.
        allow_no_key: serve other machines without a key, because something in front of the service asks for one.
        served_model: folder of a served model; None: the champion, else the model of the last `dvc repro`.
        refresh: seconds between two looks at whether there is another champion, and whether its provider answers.
        max_queue: reviews that may wait for an answer or be with the provider; more are refused with status 429.
        max_batch: reviews in one request.
        timeout: seconds until a request without an answer gets status 504; also the time that running requests get
            when the service is told to end.
        record: folder in which reviews and answers are recorded; None: no review is kept.
        record_days: days that are kept, today included.
        record_mb: megabytes of all recorded files together, at most.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    api_key: str | None = None
    allow_no_key: bool = False
    served_model: Path | None = None
    refresh: float = 30.0
    max_queue: int = 256
    max_batch: int = 64
    timeout: float = 30.0
    record: Path | None = None
    record_days: int = 30
    record_mb: int = 1_000

    def check(self) -> None:
        """Refuse limits that contradict each other, and an address for other machines without a key.

        Raises:
            ConfigError: with the option to change.
        """
        if self.max_batch > self.max_queue:
            raise ConfigError(
                f"--max-batch {self.max_batch} is above --max-queue {self.max_queue}: a full request could never "
                "enter the queue; raise --max-queue or lower --max-batch"
            )
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable() and self.api_key):
            raise ConfigError("the key has characters that a request cannot carry; use letters, digits and signs")
        if self.api_key is None and not self.allow_no_key and not is_loopback_host(self.host):
            raise ConfigError(
                f"--host {self.host} is reachable from other machines, but there is no key: set REVIEWTUNE_APP_KEY, "
                "or name its variable with --api-key-env, or use --host 127.0.0.1; --allow-no-key serves everybody"
            )


def is_loopback_host(host: str) -> bool:
    """Whether a socket on this host is reachable from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
