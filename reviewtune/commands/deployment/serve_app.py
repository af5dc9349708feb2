"""The command `serve-app`: the analyzer as an HTTP service."""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from reviewtune.errors import ConfigError, installing

KEY_VARIABLE = "REVIEWTUNE_APP_KEY"
PACKAGES = ("fastapi", "uvicorn", "prometheus_client")


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The command's options; limits and times as in `AppSettings`."""

    host: str
    port: int
    api_key_env: str | None
    allow_no_key: bool
    served_model: Path | None
    refresh: float
    max_queue: int
    max_batch: int
    timeout: float
    record: Path | None
    record_days: int
    record_mb: int


def serve_app(options: ServeOptions) -> None:
    """Serve until a signal ends the process.

    Raises:
        ConfigError: a package is missing, the options do not fit together, or the address is in use.
    """
    _require_packages()
    from reviewtune.deployment.app.server import serve
    from reviewtune.deployment.app.settings import AppSettings

    settings = AppSettings(
        host=options.host,
        port=options.port,
        api_key=_api_key(options.api_key_env),
        allow_no_key=options.allow_no_key,
        served_model=options.served_model,
        refresh=options.refresh,
        max_queue=options.max_queue,
        max_batch=options.max_batch,
        timeout=options.timeout,
        record=options.record,
        record_days=options.record_days,
        record_mb=options.record_mb,
    )
    serve(settings)


def _api_key(variable: str | None) -> str | None:
    """The key that requests must carry: of this variable, or of KEY_VARIABLE if that is set.

    Raises:
        ConfigError: the variable that the user named is not set.
    """
    key = os.environ.get(variable or KEY_VARIABLE, "").strip()
    if variable and not key:
        raise ConfigError(f"--api-key-env {variable}: the variable {variable} is not set; set it, or name another")
    return key or None


def _require_packages() -> None:
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ConfigError(f"serve-app needs {', '.join(missing)}: run {installing('app')}")
