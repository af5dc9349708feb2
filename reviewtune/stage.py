"""How a stage starts: its arguments, `--help` from its docstring, and the user's errors in one line."""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from reviewtune.core.entry_point import program
from reviewtune.errors import ConfigError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; {' '.join(self.format_usage().split())} (--help says more)")


def run_stage(main: Callable[..., None], doc: str | None, **arguments: type) -> None:
    """Call `main` with the command line's arguments; a bool is an option such as --write, the others must be given."""
    kind = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog=f"python {sys.argv[0]}", description=doc, formatter_class=kind)
    for name, type_ in arguments.items():
        if type_ is bool:
            parser.add_argument(f"--{name}", action="store_true")
        else:
            parser.add_argument(name, metavar=name.upper(), type=type_)
    with program():
        main(**vars(parser.parse_args()))
