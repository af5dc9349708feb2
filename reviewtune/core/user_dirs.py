"""What the local provider and its clients agree on: the user's folders, the running server, and the packages it needs.

The folders are shared by all projects; REVIEWTUNE_HOME moves them. Both sides call this module, so that they agree.
"""

import json
import os
import sys
import sysconfig
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import platformdirs

from reviewtune.errors import ProviderError, installing

if TYPE_CHECKING:
    import psutil

SERVER_LOG = "server.log"  # in the account folder, of a server that a command started
SERVER_FILE = "server.json"  # in the account folder: address, process id and start time of its server
CLOCK_STEP = 5.0  # seconds by which a corrected clock may move the start time of a process
UNIX_SECONDS = 1e9  # a number above is a date, one below the time since the machine was started
ENGINE_PACKAGES = ("torch", "transformers", "peft", "safetensors", "gguf", "llguidance")  # the extra `local`


def account_folder() -> Path:
    """The folder with files, jobs and models of the local provider."""
    home = _home()
    return home / "data" if home else platformdirs.user_data_path("reviewtune")


def cache_folder() -> Path:
    """The folder with converted base weights and with cached answers."""
    home = _home()
    return home / "cache" if home else platformdirs.user_cache_path("reviewtune")


def _home() -> Path | None:
    """REVIEWTUNE_HOME; `~` is expanded here, because no shell reads a .env file or the settings of a container."""
    home = os.environ.get("REVIEWTUNE_HOME")
    return Path(home).expanduser() if home else None


def with_own_modules(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which a child Python imports this copy of reviewtune, which may not be installed.

    MLflow puts the copy that is stored with a registered model on the path of its own process only.
    """
    here, path = str(Path(__file__).parents[2].absolute()), environment.get("PYTHONPATH")
    if here in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return dict(environment)
    return {**environment, "PYTHONPATH": f"{here}{os.pathsep}{path}" if path else here}


class RunningServer(NamedTuple):
    """The server of an account: its process and its base URL."""

    pid: int
    address: str


def start_of(process: "psutil.Process") -> float:
    """When a process was started, to tell it from another one that gets its id later.

    Linux counts from the start of the machine, and psutil adds what the clock says that start was. A clock that is set
    meanwhile would make every process another one, so that part is taken off again. Other systems give Unix seconds.
    """
    import psutil

    started = float(process.create_time())
    return started - psutil.boot_time() if psutil.LINUX else started


def is_started_at(process: "psutil.Process", started: float) -> bool:
    """Whether this process was started then, as `start_of` says it, or in Unix seconds, which earlier files have."""
    own = process.create_time() if started > UNIX_SECONDS else start_of(process)
    return bool(abs(own - started) < CLOCK_STEP)


def running_server(account: Path) -> RunningServer | None:
    """The server that serves this account, or None.

    A server that was killed leaves its server.json, and its port may belong to another program by now. So the process
    must still run: the one with that id that was started at that time.
    """
    import psutil

    try:
        announced = json.loads((account / SERVER_FILE).read_bytes())
        pid = announced["pid"]
        alive = is_started_at(psutil.Process(pid), announced["create_time"])
        return RunningServer(pid, str(announced["base_url"])) if alive else None
    except (OSError, ValueError, TypeError, KeyError, psutil.Error):  # no such file or process, or not a server.json
        return None


def require_engine() -> None:
    """Refuse to start a server that could not load a model.

    Raises:
        ProviderError: this Python lacks a package of the local provider's engine.
    """
    missing = [name for name in ENGINE_PACKAGES if find_spec(name) is None]
    if missing:
        raise ProviderError(
            f"the local provider needs {', '.join(missing)}, not installed for {sys.executable}: "
            f"run {installing('local', python=sys.executable)}, or choose another provider"
        )
