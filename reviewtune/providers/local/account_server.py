"""The local provider's server of this user's account: find it, or start it.

A started server belongs to no command: it serves all of them, and shuts down after IDLE_EXIT_SECONDS without a request.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import httpx2
from filelock import FileLock

from reviewtune.core.loopback import no_certificates
from reviewtune.core.user_dirs import SERVER_LOG, account_folder, require_engine, running_server, with_own_modules
from reviewtune.errors import ProviderError
from reviewtune.providers.address import OWN_KEY_ENV

IDLE_EXIT_SECONDS = 120
START_SECONDS = 60
HEALTH_SECONDS = 10


class Served(NamedTuple):
    """A running server; `models` is empty if it requires a different key."""

    address: str
    models: list[str]


def local_address(model: str, key: str, finetuned: bool) -> str:
    """The base URL of the account's server, which is started if necessary.

    Args:
        model: a model that it must offer.
        key: sent to the server, which may have been started with a key.
        finetuned: whether the model is a fine-tune, which its account knows.

    Raises:
        ProviderError: the server does not start, or the running one does not offer the model.
    """
    folder = account_folder().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "start.lock"):  # so that two stages at once start one server
        address, offered = _running(folder, key) or _start(folder, key, None if finetuned else model)
    if offered and model not in offered:
        raise ProviderError(
            f"the local provider at {address} does not offer '{model}', only {', '.join(offered)}; a server "
            f"that reviewtune started shuts down after {IDLE_EXIT_SECONDS} s without requests: run the same command "
            f"again then; or stop your own server and run `reviewtune provider serve --base-model {model}`"
        )
    return address


def has_ended(address: str) -> bool:
    """Whether nothing listens at a server's address any more. Asking keeps the server from shutting down."""
    try:
        with httpx2.Client(timeout=HEALTH_SECONDS, trust_env=False, verify=no_certificates()) as client:
            client.get(f"{address.removesuffix('/').removesuffix('/v1')}/healthz")
    except httpx2.ConnectError:
        return True
    except httpx2.HTTPError:  # a server that is busy
        return False
    return False


def _running(folder: Path, key: str) -> Served | None:
    """The server of this account, if it runs and answers."""
    server = running_server(folder)
    if server is None:
        return None
    address = server.address
    headers = {b"Authorization": f"Bearer {key}".encode()}
    with httpx2.Client(headers=headers, timeout=HEALTH_SECONDS, trust_env=False, verify=no_certificates()) as client:
        try:
            health = client.get(f"{address.removesuffix('/v1')}/healthz")
            if health.status_code == httpx2.codes.UNAUTHORIZED:
                return Served(address, [])  # the real request will report it
            if health.json()["pid"] != server.pid:  # another program that took the port
                return None
            return Served(address, [str(model["id"]) for model in client.get(f"{address}/models").json()["data"]])
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError):
            return None  # another program, or a server that just ends


def _start(folder: Path, key: str, base_model: str | None) -> Served:
    require_engine()
    command = [sys.executable, "-m", "reviewtune.local_server", "--port", "0", "--data-dir", str(folder)]
    output = folder / SERVER_LOG
    command += ["--idle-exit", str(IDLE_EXIT_SECONDS), "--log-file", str(output)]
    command += ["--base-model", base_model] if base_model else []
    with output.open("ab") as log:  # output outside of the log: a crash, messages of libraries
        # In a separate session, so that Ctrl-C in the terminal stops the command but not the training it started.
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd=_working_folder(folder, base_model),
            env=_environment(),
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if served := _running(folder, key):
            return served
        time.sleep(0.1)
    process.terminate()
    raise ProviderError(
        f"the local provider did not start: {_last_line(output)}; to see why, run `{' '.join(command)}`"
    )


def _working_folder(folder: Path, base_model: str | None) -> Path | None:
    """Not the current one, because DVC removes temporary workspaces, and torch does not start in a removed folder.

    Only a base model with a relative path must be found from here.
    """
    relative = base_model is not None and Path(base_model).is_dir() and not Path(base_model).is_absolute()
    return None if relative else folder


def _environment() -> dict[str, str]:
    """Without what this command was given for itself alone, because other commands will use the server too.

    A key would make it refuse all those that do not have it. Encodings are UTF-8, whatever the terminal's are.
    """
    kept = {name: value for name, value in os.environ.items() if name not in (OWN_KEY_ENV, "PYTHONIOENCODING")}
    return with_own_modules(kept | {"PYTHONUTF8": "1"})


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"{log} is empty"
