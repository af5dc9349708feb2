"""Folders on disk: the space that they take, and whether a command is using one."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


class Usage:
    """Sizes of folders. A file counts once, even if several names in them belong to it (hard links)."""

    def __init__(self) -> None:
        self._links: Counter[tuple[int, int]] = Counter()

    def new(self, *places: Path) -> int:
        """Bytes of the files in these places (folders or files) that no earlier call counted."""
        return sum(status.st_size for status in _statuses(places) if self._names_so_far(status) == 1)

    def freed(self, *places: Path) -> int:
        """Bytes that are free when these places are removed, after those of earlier calls.

        A file with a further name elsewhere frees nothing.
        """
        return sum(status.st_size for status in _statuses(places) if self._names_so_far(status) == status.st_nlink)

    def _names_so_far(self, status: os.stat_result) -> int:
        key = (status.st_dev, status.st_ino)
        self._links[key] += 1
        return self._links[key]


def _statuses(places: tuple[Path, ...]) -> Iterator[os.stat_result]:
    """Of all files in the places; symbolic links are not followed, files that vanish are left out."""
    for place in places:
        paths = (Path(folder, name) for folder, _, names in os.walk(place) for name in names)
        for path in paths if place.is_dir() else [place]:
            with suppress(OSError):
                yield path.lstat()


@contextmanager
def using(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Mark the folder as in use, so that `in_use` is true in every process until the end of the block.

    Args:
        folder: need not exist.
        wait: until no other process uses it; otherwise several may.
    """
    lock = _lock_of(folder)
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    with suppress(Timeout):  # the same command runs twice: the first one holds the lock
        held.acquire(timeout=-1 if wait else 0)
    try:
        yield
    finally:
        held.release()


def in_use(folder: Path) -> bool:
    """Whether a process is in `using(folder)`."""
    lock = _lock_of(folder)
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
