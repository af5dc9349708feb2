"""Where a command writes its result: a file, or standard output for `-`. It is checked before the work begins."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from reviewtune.core.atomic_files import write_bytes
from reviewtune.errors import DataError

STANDARD_STREAM = Path("-")


@dataclass(frozen=True)
class Output:
    """A checked place for a result.

    Args:
        path: the file; `-` is standard output.
    """

    path: Path

    @classmethod
    def checked(cls, path: Path, *, option: str = "--out") -> Self:
        """The output, if it can be written.

        Args:
            path: the file; `-` is standard output.
            option: the command line's option with the path, for messages.

        Raises:
            DataError: the path is a folder, its folder does not exist, or it may not be written.
        """
        if path != STANDARD_STREAM:
            _refuse_unwritable(path, option)
        return cls(path)

    @property
    def is_stdout(self) -> bool:
        """Whether the result goes to standard output; then messages belong on standard error."""
        return self.path == STANDARD_STREAM

    def write_bytes(self, content: bytes) -> None:
        if not self.is_stdout:
            return write_bytes(content, self.path)
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return None

    def write_text(self, text: str) -> None:
        """Write the text as UTF-8."""
        self.write_bytes(text.encode("utf-8"))


def _refuse_unwritable(path: Path, option: str) -> None:
    folder = Path(os.path.realpath(path)).parent
    if path.is_dir():
        raise DataError(f"{option} {path}: this is a folder; name a file in it")
    if not folder.is_dir():
        raise DataError(f"{option} {path}: there is no folder {folder}; create it, or name another file")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise DataError(f"{option} {path}: you may not write there; name another file")
