"""Disk space for base models: checked before the work, and a clear error if a disk is full nevertheless."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reviewtune.errors import ProviderError

MB = 1_000_000
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # EFBIG: FAT has no files above 4 GB, and `ulimit -f` may forbid them
FULL_TEXTS = ("No space left", "os error 28", "Disk quota exceeded", "File too large")  # of other programs
ADVICE = "free some space, or set REVIEWTUNE_HOME to a folder on a larger disk, then run the same command again"


def require(what: str, needed: int, folder: Path) -> None:
    """Refuse to begin what does not fit.

    Args:
        what: what needs the space, for the message.
        needed: bytes.
        folder: an existing folder on the disk in question.

    Raises:
        ProviderError: the disk has less free space.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ProviderError(
            f"{what} needs {in_mb(needed)} MB of free disk space in {folder}, which has {in_mb(free)} MB; {ADVICE}"
        )


@contextmanager
def full_disk_named(what: str, folder: Path) -> Iterator[None]:
    """Turn any error about a full disk into one that says which disk, and what to do.

    Raises:
        ProviderError: the disk was full.
    """
    try:
        yield
    except Exception as error:  # the tokenizers package raises a plain Exception
        if not is_full(error):
            raise
        free = in_mb(shutil.disk_usage(folder).free)
        raise ProviderError(
            f"{what} ended because the disk is full or a file may not become that large ({folder}, {free} MB free); "
            f"{ADVICE}"
        ) from error


def is_full(error: Exception) -> bool:
    """Whether this error, or a message of another program in it, is about a full disk."""
    return getattr(error, "errno", None) in FULL or says_full(str(error))


def says_full(text: str) -> bool:
    """Whether another program's message is about a full disk."""
    return any(words in text for words in FULL_TEXTS)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder, 0 if there is none."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def in_mb(size: int) -> str:
    """A number of bytes as a number of megabytes, such as 1,070."""
    return f"{size / MB:,.0f}"
