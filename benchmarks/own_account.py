"""An account of the local provider for one benchmark, in a temporary folder, with weights that are there already."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from reviewtune.core.user_dirs import account_folder, cache_folder, running_server


@contextmanager
def own_account(weights: Path) -> Iterator[None]:
    """Let this process and its server use another account; the server is ended before the folder is removed.

    Args:
        weights: folder of the base model, which is linked into the account's cache by its name.
    """
    with tempfile.TemporaryDirectory() as home:
        os.environ["REVIEWTUNE_HOME"] = home
        cache_folder().mkdir()
        (cache_folder() / weights.name).symlink_to(weights)
        try:
            yield
        finally:
            if running_server(account_folder()) is not None:
                end(server_process())


def server_process() -> psutil.Process:
    """The server of this account, which must run."""
    server = running_server(account_folder())
    assert server is not None
    return psutil.Process(server.pid)


def end(process: psutil.Process) -> None:
    """End a server, and wait for it."""
    process.terminate()
    process.wait(60)
