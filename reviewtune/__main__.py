"""The command `reviewtune`, also as `python -m reviewtune`."""

import sys
from importlib.util import find_spec


def _install() -> str:
    from reviewtune.errors import installing

    return f"{installing('project')} installs all commands, {installing('app')} serve-app alone"


def main() -> None:
    """Entry point; `pip install reviewtune` alone installs the client for applications, without the commands."""
    if find_spec("typer") is None:
        sys.exit(f"error: the command `reviewtune` is not installed, only the client for applications is: {_install()}")
    from reviewtune.commands.main import main as run_command

    try:
        run_command()
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "reviewtune") or find_spec(package) is not None:
            raise
        sys.exit(f"error: this command needs {package}, which is not installed: {_install()}")


if __name__ == "__main__":
    main()
