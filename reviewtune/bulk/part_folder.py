"""The folder of the parts: new, or that of the same command before; one command at a time writes into it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from reviewtune.bulk.manifest import MANIFEST, Manifest, read_manifest, refuse_other_work, write_manifest
from reviewtune.core.formatting import listed
from reviewtune.core.outputs import refuse_bad_folder
from reviewtune.errors import DataError

LOCK = ".lock"
SHOWN = 3


def refuse_unfit(folder: Path) -> None:
    """Refuse a folder that cannot receive parts.

    Raises:
        DataError: it may not be written, or holds something else.
    """
    refuse_bad_folder(folder, [MANIFEST])
    if not folder.is_dir() or (folder / MANIFEST).exists():
        return
    others = sorted(path.name for path in folder.iterdir() if not path.name.startswith(f".{MANIFEST}"))
    if others := [name for name in others if name != LOCK]:
        raise DataError(
            f"--out {folder}: this is a folder with other files ({listed(others, shown=SHOWN)}); name a new or empty "
            "folder for the parts, or a file such as sorted.csv"
        )


@contextmanager
def part_folder(folder: Path) -> Iterator[None]:
    """Make the folder and keep other commands out of it until the end of the block.

    Raises:
        DataError: it may not be written, holds something else, or another command writes into it.
    """
    refuse_unfit(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(
            f"--out {folder}: another command is writing parts there; wait until it ends, or name another folder"
        ) from error
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()


def begun(folder: Path, wanted: Manifest) -> Manifest:
    """The manifest to continue with; files that a killed command was writing are removed.

    Args:
        folder: of the parts.
        wanted: the manifest without parts.

    Raises:
        DataError: the folder has parts of another model, other files or other options.
    """
    for partial in [*folder.glob(".part-*"), *folder.glob(f".{MANIFEST}.*")]:
        partial.unlink()
    if not (folder / MANIFEST).exists():
        write_manifest(wanted, folder)
        return wanted
    before = read_manifest(folder)
    refuse_other_work(before, wanted, folder)
    return before.model_copy(update={"files": wanted.files})  # the same content, perhaps copied since


def known_files(folder: Path) -> Manifest | None:
    """The manifest of an earlier command, whose hashes need not be computed again; None: there is none."""
    return read_manifest(folder) if (folder / MANIFEST).exists() else None
