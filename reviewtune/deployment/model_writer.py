"""The process that reads the local provider's account and writes the weights; it has torch, this program does not."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from reviewtune.core.terminal.progress import Progress
from reviewtune.core.user_dirs import cache_folder, require_engine, with_own_modules
from reviewtune.errors import ProviderError

END_SECONDS = 5.0  # that a stopped writer has to end by itself


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the account knows about the model, as reviewtune/local_server/export.py describes it.

    Attributes:
        base: the base model's name.
        base_folder: the folder of the base model's files on this machine.
        is_adapter: whether the account holds an adapter of the base model.
        size: bytes that will be written, to about 1 %.
        job_id: empty for a base model, as the next two.
        training_sha256: hash of the training file.
        training_file: its path, if it is still there.
    """

    base: str
    base_folder: str
    is_adapter: bool
    size: int
    job_id: str
    training_sha256: str
    training_file: str


@dataclass(frozen=True, kw_only=True)
class Written(Found):
    """What was written.

    Attributes:
        text: what the chat template makes of a question; the two marks are in the place of the messages.
        begin: the token that begins a text.
        end: the token that ends an answer.
    """

    text: str
    begin: str
    end: str


def write_model(
    model: str,
    target: Path,
    account: Path,
    base_models: list[str],
    *,
    adapter: bool,
    check: Callable[[Found], None],
    progress: Progress,
) -> Written:
    """Write a model's files into an existing, empty folder.

    Args:
        model: its name in the account, or a base model.
        target: the folder.
        account: the folder of the account.
        base_models: base models that the account offers besides the built-in ones.
        adapter: the adapter alone.
        check: called before the weights are written; it may raise.
        progress: receives messages.

    Raises:
        ProviderError: there is no such model, or it could not be written.
    """
    require_engine()
    folders = {"--target": target.resolve(), "--data-dir": account.resolve(), "--cache-dir": cache_folder().resolve()}
    command = [sys.executable, "-m", "reviewtune.local_server.export", "--model", model]
    command += [part for name, folder in folders.items() for part in (name, str(folder))]
    command += [part for name in base_models for part in ("--base-model", name)]
    command += ["--adapter"] if adapter else []
    with TemporaryFile() as messages, _running(command, messages) as process:
        assert process.stdout
        known: dict[str, object] = {}
        for line in process.stdout:
            content = json.loads(line)
            if "message" in content:
                progress.message(content["message"])
                continue
            known |= content
            if "text" not in known:
                check(found := Found(**known))  # type: ignore[arg-type]
                progress.message(f"writing {in_words(found.size)} ...")
        process.wait()
        messages.seek(0)
        errors = messages.read().decode(errors="replace")
    if process.returncode:
        raise ProviderError(_reason(errors))
    return Written(**known)  # type: ignore[arg-type]


def in_words(size: int) -> str:
    """`3.1 GB`, `142 MB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


@contextmanager
def _running(command: list[str], messages: IO[bytes]) -> Iterator["subprocess.Popen[str]"]:
    """The process; it has ended when the block ends, also after Ctrl-C, so that it writes no more.

    Its messages go into a file, because a pipe that nobody reads would block it when it is full.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONIOENCODING"}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=messages,
        encoding="utf-8",
        errors="replace",
        env=with_own_modules(environment | {"PYTHONUTF8": "1"}),
    )
    try:
        yield process
        process.wait()
    except BaseException:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise


def _reason(errors: str) -> str:
    """The line that the process ended with."""
    lines = [line for line in errors.splitlines() if line.strip()]
    named = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return named[-1] if named else f"the export failed: {lines[-1] if lines else 'without a message'}"
