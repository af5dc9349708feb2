"""Where a command writes its result: a file, or standard output for `-`. It is checked before the work begins."""

import os
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from reviewtune.core.atomic_files import write_bytes
from reviewtune.errors import DataError

STANDARD_STREAM = Path("-")
STANDARD_OUTPUT = (STANDARD_STREAM, *(Path(name) for name in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")))


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
        if path not in STANDARD_OUTPUT:
            _refuse_unwritable(path, option)
        return cls(path)

    @property
    def is_stdout(self) -> bool:
        """Whether the result goes to standard output; then messages belong on standard error."""
        return self.path in STANDARD_OUTPUT

    @property
    def replaces_a_file(self) -> bool:
        """Whether there is a regular file, whose content would be lost; devices and pipes are written through."""
        return not self.is_stdout and self.path.is_file()

    def refuse_input(self, file: Path, what: str) -> None:
        """Refuse to write over the file that the command reads.

        Args:
            file: the input.
            what: is done with it, such as "to classify".

        Raises:
            DataError: the output is the input.
        """
        if not self.is_stdout and self.path.resolve() == file.resolve():
            raise DataError(f"{self.path}: is the file {what}; choose another name for the output")

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


def refuse_bad_folder(path: Path, names: Collection[str], *, option: str = "--out") -> None:
    """Check a folder that is to receive several files; it and its parents are created when they are written.

    Args:
        path: the folder.
        names: the files to write; none of them may exist as something else, such as a folder.
        option: the command line's option with the path, for messages.

    Raises:
        DataError: the path is not a folder, or the folder or a file in it may not be written.
    """
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise DataError(f"{option} {path}: {existing} is not a folder; name a folder for {', '.join(names)}")
    for place in (existing, *(path / name for name in names if (path / name).exists())):
        if not os.access(place, os.W_OK) or (place != existing and not place.is_file()):
            raise DataError(f"{option} {path}: {place} cannot be written; name another folder")


def _refuse_unwritable(path: Path, option: str) -> None:
    folder = Path(os.path.realpath(path)).parent
    if path.is_dir():
        raise DataError(f"{option} {path}: this is a folder; name a file in it")
    if not folder.is_dir():
        raise DataError(f"{option} {path}: there is no folder {folder}; create it, or name another file")
    replaced = [folder] if path.is_file() or not path.exists() else []  # devices and pipes are written through
    for place in (*replaced, *([path] if path.exists() else [])):
        if not os.access(place, os.W_OK):
            raise DataError(f"{option} {path}: you may not write to {place}; name another file")
