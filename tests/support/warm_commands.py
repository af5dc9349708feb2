"""Run `python ...` in a new process that has imported MLflow, scikit-learn or torch already.

That takes five seconds of each `reviewtune promote` and of each stage, and eight of each training of the tiny model;
the tests run hundreds. The process, its exit status, its output and the project's own modules are as usual; only the
import of other people's libraries is not repeated. The first `dvc repro`, servers, the trainings of the tests of faults
and what a test kills (`Clone.start`) are ordinary processes; so is everything on other systems than Linux.
"""

import atexit
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.support import warm_python

LINUX = sys.platform == "linux"  # where a process can be watched and given open files
# As reviewtune sets them before it imports MLflow; and as clones have them.
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "OMP_NUM_THREADS": "1"}


def python(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], kind: str = "commands"
) -> tuple[int, str]:
    """Exit status (negative: the signal that ended it), and what was written to both outputs."""
    if not LINUX:
        done = subprocess.run(
            [sys.executable, *words], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        return done.returncode, done.stdout.decode()
    with tempfile.TemporaryFile() as output, Path(os.devnull).open("rb") as nothing:
        files = (nothing.fileno(), output.fileno(), output.fileno())
        status = warm_python.run(str(_server(kind)), list(words), str(folder), dict(environment), files)
        output.seek(0)
        return status, output.read().decode()


def with_warm_stages(environment: Mapping[str, str], kind: str = "commands") -> dict[str, str]:
    """The environment of a program, such as dvc, whose `python stages/NAME.py` is to be quick."""
    if not LINUX:
        return dict(environment)
    return {**environment, "PATH": f"{_server(kind).parent}:{environment['PATH']}"}


def with_warm_trainings(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a local server whose trainings are to start quickly."""
    if not LINUX:
        return dict(environment)
    path = [str(Path(__file__).parent / "warm_trainings"), environment.get("PYTHONPATH", "")]
    python = str(_server("trainings").parent / "python")
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, path)), "WARM_PYTHON": python}


@cache
def _server(kind: str) -> Path:
    """The socket of the server, which ends with this process; in its folder is a program `python`."""
    folder = Path(tempfile.mkdtemp(prefix="warm-"))  # short: a socket's name has at most 107 characters
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    address, here = folder / "socket", Path(__file__).parent
    client = [sys.executable, "-I", "-S", str(here / "warm_python.py"), str(address)]
    (folder / "python").write_text(f'#!/bin/sh\nexec {shlex.join(client)} "$@"\n')
    (folder / "python").chmod(0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(address))
        listener.listen(100)
        command = [sys.executable, str(here / "warm_server.py"), kind, str(listener.fileno())]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | QUIET
        server = subprocess.Popen(command, env=environment, pass_fds=[listener.fileno()])
    atexit.register(server.wait)
    atexit.register(server.terminate)
    return address
