"""Started by warm_commands.py: imports the large libraries once, then forks for every command.

No module of reviewtune is imported here: each command imports those of its own project.
"""

import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

COMMANDS = (
    "typer",
    "rich.console",
    "rich.markdown",
    "pandas",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "sklearn.linear_model",
    "sklearn.feature_extraction.text",
    "sklearn.pipeline",
    "sklearn.model_selection",
    "scipy.stats",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "openai",
)
TRAININGS = ("torch", "transformers.modeling_utils", "transformers.models.llama.modeling_llama", "peft", "psutil")
LIBRARIES = {"commands": COMMANDS, "trainings": TRAININGS, "none": ()}  # the last for tests of this module
LARGEST = 1_000_000  # bytes of a request; most are the environment


def main() -> None:
    """Listen at the socket that is open as the second argument, until the process of the tests has ended."""
    listener = socket.socket(fileno=int(sys.argv[2]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes that wait for a command
    if (command := _next_command(listener)) is not None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _run(**command)


def _next_command(listener: socket.socket) -> dict[str, Any] | None:
    """A command, returned in a process of its own; None at the end of the tests."""
    parent = os.getppid()
    listener.settimeout(1)
    while os.getppid() == parent:
        try:
            connection = listener.accept()[0]
        except TimeoutError:
            continue
        _import(LIBRARIES[sys.argv[1]])
        if os.fork() == 0:
            listener.close()
            return _forked(connection)
        connection.close()
    return None


@cache
def _import(libraries: tuple[str, ...]) -> None:
    """At the first command, as many test processes never have one."""
    for name in libraries:
        importlib.import_module(name)
    gc.freeze()


def _forked(connection: socket.socket) -> dict[str, Any]:
    """The command, returned in a child; this process waits for it and tells the caller how it ended."""
    connection.settimeout(None)
    message, files, _, _ = socket.recv_fds(connection, LARGEST, 3)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if child := os.fork():
        for file in files:
            os.close(file)
        _watch(child, connection)
        status = str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        with suppress(BrokenPipeError):
            connection.send(status.encode())
        os._exit(0)
    connection.close()
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115 - for the whole command, as the others
    sys.stdout, sys.stderr = _text(1, "strict"), _text(2, "backslashreplace")
    return json.loads(message)  # type: ignore[no-any-return]


def _watch(child: int, connection: socket.socket) -> None:
    """Until the command ends, pass on the caller's signals; if the caller is killed, so is the command."""
    ended = os.pidfd_open(child)
    while ended not in select.select([connection.fileno(), ended], [], [])[0]:
        received = connection.recv(LARGEST)
        os.kill(child, int(received or signal.SIGKILL))
        if not received:
            return


def _text(descriptor: int, errors: str) -> io.TextIOWrapper:
    """A new object for the new file; the one of the server has noted where the old one stood."""
    lines = descriptor == 2
    return io.TextIOWrapper(open(descriptor, "wb"), encoding="utf-8", errors=errors, line_buffering=lines)


def _run(words: list[str], folder: str, environment: dict[str, str]) -> None:
    """As `python WORDS` does: a module, code, or a file."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    own = [str(Path(path).absolute()) for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*own, *(path for path in sys.path[1:] if path not in own)]
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path.insert(0, folder)
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.path.insert(0, "")
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).absolute().parent))
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main()
