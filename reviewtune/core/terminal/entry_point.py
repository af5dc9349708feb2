"""Start a stage or a command: parse arguments, print `--help` from the docstring, print errors in one line."""

import argparse
import codecs
import gc
import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TextIO

from reviewtune.errors import ConfigError, one_line_errors

COLLECTION_THRESHOLD = 100_000  # new objects between two garbage collections; Python's default is 700
REPLACE = "reviewtune.replace"  # name of the error handler of standard output and standard error
SUBSTITUTES = str.maketrans(
    {"−": "-", "–": "-", "—": "-", "…": "...", "≥": ">=", "≤": "<=", "×": "x", "→": "->", "•": "*", "’": "'"}
)


@contextmanager
def program() -> Iterator[None]:
    """Run a command or a stage so that whatever it prints or raises ends well.

    The user's errors become one line and exit status 1. Characters that the terminal cannot show are replaced. A reader
    that closes the pipe, such as `head`, ends the program without a message. Garbage is collected rarely.
    """
    _replace_what_cannot_be_shown()
    with rare_collections(), one_line_errors(), _closed_pipe():
        yield


def _replace_what_cannot_be_shown() -> None:
    """Standard output in ASCII, Latin-1 or cp949, for example, has no minus sign or no Korean letters."""
    codecs.register_error(REPLACE, _replacement)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=REPLACE)


def _replacement(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    if all("\udc80" <= character <= "\udcff" for character in text):  # bytes of a file's name that are not text
        return text.encode("ascii", "surrogateescape"), error.end
    shown = text.translate(SUBSTITUTES)
    return "".join(character if character.isascii() else "?" for character in shown), error.end


@contextmanager
def _closed_pipe() -> Iterator[None]:
    """End silently, with exit status 1, when the reader of standard output has gone."""
    try:
        try:
            yield
        finally:
            _flush()
    except BrokenPipeError:
        if not _has_no_reader(sys.stdout):
            raise  # another pipe or a connection
        _discard(sys.stdout)
        sys.exit(1)


def _flush() -> None:
    """Write what is left now; at exit Python would report an error, such as a full disk, with a traceback."""
    try:
        if sys.stdout and not sys.stdout.closed:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        _discard(sys.stdout)
        raise


def _has_no_reader(stream: TextIO | None) -> bool:
    """Whether the stream is a pipe whose other end is closed."""
    if stream is None or stream.closed:
        return False
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
    except OSError:  # not a real file, as in tests
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _discard(stream: TextIO | None) -> None:
    """Send the rest of the output to nowhere; Python would try to write it at exit, and print a traceback."""
    if stream:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


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
