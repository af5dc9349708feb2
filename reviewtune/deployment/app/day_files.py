"""The files of a recording: appended line by line, old ones removed, and never larger together than they may be."""

import errno
import os
from datetime import date, timedelta
from pathlib import Path

from reviewtune.deployment.app.recorded_answer import day_of, file_of, recorded_files

MODE = 0o600
FOLDER_MODE = 0o700
IGNORED = "*\n"  # a .gitignore: reviews of customers are not committed by accident
FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)


class DayFiles:
    """One file per day. Several processes may append to the same folder.

    Args:
        folder: made at the first line.
        days: how many days are kept, today included; older files of the recording are removed.
        limit: bytes of all files together; the oldest files are removed to stay below.
    """

    def __init__(self, folder: Path, *, days: int, limit: int) -> None:
        self._folder, self._days, self._limit = folder, days, limit
        self._day: date | None = None
        self._others = 0  # bytes of the files of earlier days

    def prepare(self) -> None:
        """Make the folder, and see that files can be made in it.

        Raises:
            OSError: they cannot.
        """
        self._make_folder()
        probe = self._folder / f".probe-{os.getpid()}"
        os.close(os.open(probe, FLAGS, MODE))
        probe.unlink()

    def append(self, line: bytes, day: date) -> None:
        """Add a line in one step, so that a killed process leaves no more than its last line incomplete.

        The file is opened each time: it may be moved or removed meanwhile.

        Raises:
            OSError: the line was not written, or not all of it.
        """
        self._make_folder()
        descriptor = os.open(file_of(self._folder, day), FLAGS, MODE)
        try:
            size = os.fstat(descriptor).st_size
            self._keep_limits(day, size + len(line) + 1)
            content = line if _ends_with_a_line(descriptor, size) else b"\n" + line
            if os.write(descriptor, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)

    def _make_folder(self) -> None:
        if not self._folder.is_dir():
            self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            (self._folder / ".gitignore").write_text(IGNORED, encoding="utf-8")

    def _keep_limits(self, day: date, today: int) -> None:
        """Remove files that are too old or too many.

        Args:
            day: of the line.
            today: bytes of that day's file with the line.
        """
        if day == self._day and self._others + today <= self._limit:
            return
        first = day - timedelta(days=self._days - 1)
        sizes = {path: path.stat().st_size for path in recorded_files(self._folder) if _is_before(path, day)}
        for path in list(sizes):  # the oldest first
            if _is_before(path, first) or sum(sizes.values()) + today > self._limit:
                path.unlink(missing_ok=True)
                del sizes[path]
        self._day, self._others = day, sum(sizes.values())
        if self._others + today > self._limit:
            raise OSError(errno.EFBIG, "the file of this day has reached --record-mb")


def _ends_with_a_line(descriptor: int, size: int) -> bool:
    """Whether the last line is complete, unless there is none; a killed process or a full disk may have cut it."""
    if not size:
        return True
    os.lseek(descriptor, -1, os.SEEK_END)  # where it is written is the end in any case
    return os.read(descriptor, 1) == b"\n"


def _is_before(path: Path, day: date) -> bool:
    own = day_of(path)
    return own is not None and own < day
