"""How a stage or a command starts: its arguments, `--help` from its docstring, the user's errors in one line."""

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from reviewtune.errors import ConfigError, one_line_errors

RARELY = 100_000  # new objects between two looks for garbage; Python's own number is 700


@contextmanager
def program() -> Iterator[None]:
    """The user's errors are one line and exit status 1, and garbage is looked for rarely."""
    with rare_collections(), one_line_errors():
        yield


@contextmanager
def rare_collections() -> Iterator[None]:
    """The libraries are a million objects that stay: to look for garbage among them took 1.7 of a stage's 9 s."""
    thresholds = gc.get_threshold()
    gc.set_threshold(RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


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
