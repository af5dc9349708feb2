"""Disk space for base models: checked before the work, and a clear error if a disk is full nevertheless."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reviewtune.errors import ProviderError

MB = 1_000_000
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # EFBIG: FAT has no files above 4 GB, and `ulimit -f` may forbid them
FULL_TEXTS = ("No space left", "os error 28", "Disk quota exceeded", "File too large")  # of other programs
DISK_SECONDS = 5.0  # between two attempts to write on a full disk
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
def disk_errors_named(what: str, folder: Path) -> Iterator[None]:
    """Turn errors of the disk into one line that says where and, if it is full, what to do.

    Raises:
        ProviderError: the disk was full, or a file could not be read or written.
    """
    try:
        yield
    except Exception as error:  # the tokenizers package raises a plain Exception
        if is_full(error):
            place = next(place for place in (folder, *folder.parents) if place.exists())
            free = in_mb(shutil.disk_usage(place).free)
            reason = f"ended because the disk is full or a file may not become that large ({folder}, {free} MB free)"
            raise ProviderError(f"{what} {reason}; {ADVICE}") from error
        if isinstance(error, OSError):
            raise ProviderError(f"{what} failed in {folder} ({error}); REVIEWTUNE_HOME moves that folder") from error
        raise


def is_full(error: Exception) -> bool:
    """Whether this error, or a message of another program in it, is about a full disk."""
    return getattr(error, "errno", None) in FULL or says_full(str(error))


def lacks_space(error: Exception) -> bool:
    """Whether this error, or a message of another program in it, would not come if some space were freed."""
    return is_full(error) and getattr(error, "errno", None) != errno.EFBIG and "File too large" not in str(error)


def says_full(text: str) -> bool:
    """Whether another program's message is about a full disk."""
    return any(words in text for words in FULL_TEXTS)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder, 0 if there is none; files may be removed in the meantime."""
    size = 0
    for file in folder.rglob("*"):
        with suppress(OSError):
            size += file.lstat().st_size if file.is_file() and not file.is_symlink() else 0
    return size


def in_mb(size: int) -> str:
    """A number of bytes as a number of megabytes, such as 1,070."""
    return f"{size / MB:,.0f}"
