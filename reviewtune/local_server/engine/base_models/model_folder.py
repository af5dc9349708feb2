"""The folder of a converted base model: the stamp that it is complete, its license files, its permissions."""

import hashlib
import json
import shutil
import stat
from pathlib import Path

STAMP = "reviewtune.json"
LEGAL_FILES = ("LICENSE", "NOTICE", "GEMMA_TERMS")  # how their names begin


def is_legal(name: str) -> bool:
    """Whether a file of that name is a license or a notice, which goes wherever the weights go."""
    return name.upper().startswith(LEGAL_FILES)


def is_stamped(folder: Path, *stamps: dict[str, object]) -> bool:
    """Whether the folder was made from one of these sources, by the present converter."""
    try:
        return json.loads((folder / STAMP).read_text(encoding="utf-8")) in stamps
    except (OSError, ValueError):
        return False


def write_stamp(folder: Path, stamp: dict[str, object]) -> None:
    """Note what the folder was made from."""
    (folder / STAMP).write_text(json.dumps(stamp), encoding="utf-8")


def link_or_copy(file: Path, target: Path) -> None:
    """Give a file a second name, which stays when the first is removed; a copy, where there are no hard links."""
    try:
        target.hardlink_to(file)
    except OSError:
        shutil.copy2(file, target)


def make_readable(folder: Path) -> None:
    """Give every file of a model folder the permissions of a new file; those of safetensors are for their owner."""
    probe = folder / ".new.json"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for file in folder.iterdir():
        file.chmod(stat.S_IMODE(mode))


def sha256_of(file: Path) -> str:
    """The SHA-256 hash of a file's content, 64 hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
