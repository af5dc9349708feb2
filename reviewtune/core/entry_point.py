"""Start a stage or a command: parse arguments, print `--help` from the docstring, print errors in one line."""

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from reviewtune.errors import ConfigError, one_line_errors

COLLECTION_THRESHOLD = 100_000  # new objects between two garbage collections; Python's default is 700


@contextmanager
def program() -> Iterator[None]:
    """Turn the user's errors into one line and exit status 1, and collect garbage rarely."""
    with rare_collections(), one_line_errors():
        yield


@contextmanager
def rare_collections() -> Iterator[None]:
    """Collect garbage rarely: imported libraries leave a million long-lived objects.

    Collecting garbage among them took 1.7 s of a 9 s stage.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(COLLECTION_THRESHOLD)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; {' '.join(self.format_usage().split())} (see --help)")


def run_stage(main: Callable[..., None], doc: str | None, **arguments: type) -> None:
    """Call `main` with the command line's arguments.

    With argparse instead of typer: typer reads arguments from a signature with annotations, prints errors in a box of
    several lines with exit status 2, and would add its import to the start of every stage.

    Args:
        main: the stage.
        doc: the stage's docstring, printed by `--help`.
        **arguments: type of each argument; a bool is an option such as `--write`, the others are required.
    """
    kind = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog=f"python {sys.argv[0]}", description=doc, formatter_class=kind)
    for name, type_ in arguments.items():
        if type_ is bool:
            parser.add_argument(f"--{name}", action="store_true")
        else:
            parser.add_argument(name, metavar=name.upper(), type=type_)
    with program():
        main(**vars(parser.parse_args()))
