"""Base models of the Hugging Face hub."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.base_models.disk_space import in_mb, is_full, size_of

REPORT_EVERY = 5.0  # seconds
FILES = ["*.json", "*.jinja", "*.safetensors", "*.model", "*.txt", "LICENSE*", "NOTICE*"]
NOT = ["consolidated*"]  # Mistral's weights a second time, in a format of its own


class NotOnTheHub(ProviderError):  # noqa: N818 - says what happened
    """A model cannot be fetched from the hub; the message is only the reason."""


def snapshot(name: str, cache: Path, say: Callable[[str], None]) -> Path:
    """The folder of a hub model in the hub's own cache; fetched at the first use.

    Args:
        name: the model's ID.
        cache: the folder of the cache.
        say: receives progress every few seconds.

    Raises:
        NotOnTheHub: it cannot be fetched; what was downloaded is kept.
        OSError: the disk is full.
    """
    from huggingface_hub import snapshot_download

    place = cache / f"models--{name.replace('/', '--')}"
    with _reasons(name, cache), _watched(name, place, say):
        try:
            folder = Path(snapshot_download(name, cache_dir=cache, allow_patterns=FILES, ignore_patterns=NOT))
        finally:
            _remove_if_empty(place)
    _check(folder)
    return folder


def copy_into(name: str, folder: Path, say: Callable[[str], None]) -> None:
    """Fetch a hub model's files into a folder; an interrupted download continues.

    Args:
        name: the model's ID.
        folder: where its files go.
        say: receives progress every few seconds.

    Raises:
        NotOnTheHub: it cannot be fetched; what was downloaded is kept.
        OSError: the disk is full.
    """
    from huggingface_hub import snapshot_download

    with _reasons(name, folder), _watched(name, folder, say):
        snapshot_download(name, local_dir=folder, allow_patterns=FILES, ignore_patterns=NOT)
    _check(folder)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub's notes about the download


@contextmanager
def _watched(name: str, folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Say every few seconds how much of a model is there."""
    ended = Event()

    def watch() -> None:
        while not ended.wait(REPORT_EVERY):
            say(f"{name}: {in_mb(size_of(folder))} MB so far")

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _reasons(name: str, folder: Path) -> Iterator[None]:
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        yield
    except HFValidationError as error:
        raise NotOnTheHub(f"'{name}' is neither a folder nor an ID of the Hugging Face hub") from error
    except GatedRepoError as error:
        raise NotOnTheHub(f"access to {name} on the Hugging Face hub must be granted; set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise NotOnTheHub(f"the Hugging Face hub has no model {name} that this machine may read") from error
    except LocalEntryNotFoundError as error:
        raise NotOnTheHub(
            f"the Hugging Face hub cannot be reached, and {folder} has no complete copy of {name}"
        ) from error
    except Exception as error:  # any error of the hub's HTTP client
        if is_full(error):
            raise OSError(str(error)) from error
        reason = (str(error).strip().splitlines() or [""])[0]
        raise NotOnTheHub(f"the download of {name} from the Hugging Face hub failed, {reason[:200]}") from error


def _check(folder: Path) -> None:
    """Refuse a download that is incomplete, as one without a network may be, and weights in other formats."""
    index = folder / "model.safetensors.index.json"
    weights = {"model.safetensors"}
    if index.is_file():
        weights = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    missing = [file for file in ("config.json", *sorted(weights)) if not (folder / file).is_file()]
    if missing:
        raise NotOnTheHub(f"{folder} lacks {', '.join(missing)}: the download is incomplete, or has no safetensors")


def _remove_if_empty(folder: Path) -> None:
    """Remove what the hub's client leaves for a model of which nothing was downloaded."""
    if folder.is_dir() and not any(file.is_file() for file in folder.glob("blobs/*")):
        shutil.rmtree(folder, ignore_errors=True)
