"""Add the weights of a served model to the local provider's account on this machine."""

import os
import subprocess
import sys
from pathlib import Path

from reviewtune.core.user_dirs import account_folder, cache_folder, require_engine, with_own_modules
from reviewtune.errors import ProviderError


def add_to_account(model: str, base: str, adapter: Path) -> None:
    """Add an adapter under this name; nothing changes if the account has the model already.

    Args:
        model: the model's name.
        base: the base model that the adapter belongs to; it is fetched at the first answer.
        adapter: a folder in PEFT's format.

    Raises:
        ProviderError: the account or the adapter cannot be used.
    """
    require_engine()
    account = account_folder().absolute()
    account.mkdir(parents=True, exist_ok=True)
    folders = {"--adapter": adapter.absolute(), "--data-dir": account, "--cache-dir": cache_folder().absolute()}
    command = [sys.executable, "-m", "reviewtune.local_server.import_model", "--model", model, "--base", base]
    command += [part for name, folder in folders.items() for part in (name, str(folder))]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env=with_own_modules(os.environ),
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it printed no reason"]
        raise ProviderError(f"{model} cannot be added to the account {account}: {lines[-1].removeprefix('error: ')}")
