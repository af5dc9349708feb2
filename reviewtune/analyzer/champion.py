"""Where the champion comes from: the registry of the project, or the folder of a served model."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from reviewtune.analyzer.served_model import SERVED_MODEL, read_served_model
from reviewtune.core.atomic_files import write_text
from reviewtune.core.config.config import TrackingConfig
from reviewtune.errors import DataError, TrackingError

VERSION_DIGITS = 12
STORE_DIGITS = 8
UNFINISHED = "unfinished-"
"""Beginning of the names of folders that are being written or removed."""
UNUSED_SECONDS = 24 * 60 * 60
"""After which a copy of a version without an alias is removed; a program that still needs it fetches it again."""


@dataclass(frozen=True)
class Champion:
    """The model that applications should use: its version and that of the champion before it."""

    version: str
    previous: str | None = None


class ChampionSource(Protocol):
    """Knows which model is the champion. Its methods may take seconds: they are called in a thread."""

    def look(self) -> Champion | None:
        """The champion; None: there is none.

        Raises:
            ReviewtuneError: it cannot be known now.
        """

    def last_known(self) -> Champion | None:
        """The champion when a program last asked on this machine; None: nobody did, or asking takes no time."""

    def remember(self, champion: Champion) -> None:
        """Keep for `last_known` that this champion was fetched."""

    def fetch(self, version: str) -> Path:
        """The folder of a version that `look` returned.

        Raises:
            ReviewtuneError: it cannot be had.
        """
        ...


class FolderSource:
    """A folder of a served model, as `reviewtune champion --out FOLDER` writes it. Needs no MLflow.

    The version is the beginning of the SHA-256 of served_model.json: to change the champion, replace the folder's
    files, served_model.json last.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def look(self) -> Champion:
        try:
            content = (self._folder / SERVED_MODEL).read_bytes()
        except OSError as error:
            raise DataError(
                f"{self._folder / SERVED_MODEL}: {error.strerror}; served_model is a folder that "
                "`reviewtune champion --out FOLDER` wrote"
            ) from error
        return Champion(hashlib.sha256(content).hexdigest()[:VERSION_DIGITS])

    def last_known(self) -> None:
        return None

    def remember(self, champion: Champion) -> None:
        pass

    def fetch(self, version: str) -> Path:
        return self._folder


class RegistrySource:
    """The model registry of the project's MLflow store. Copies of the versions are kept in `copies`.

    Args:
        settings: the section `tracking`.
        name: of the registered model.
        copies: a folder for the served models; also used while the registry cannot be reached.
    """

    def __init__(self, settings: TrackingConfig, name: str, copies: Path) -> None:
        self._settings, self._name, self._copies = settings, name, copies
        self._store = hashlib.sha256((settings.uri or "").encode()).hexdigest()[:STORE_DIGITS]
        self._created: dict[str, float] = {}  # by version: a store that was made anew counts from 1 again
        self._temporary: dict[str, tempfile.TemporaryDirectory[str]] = {}

    def look(self) -> Champion | None:
        from reviewtune.tracking.aliases import before
        from reviewtune.tracking.registry import by_alias

        champion = by_alias(self._settings, self._name)
        if champion is None:
            return None
        previous = before(self._settings, champion)
        self._created |= {str(one.version): one.created for one in (champion, previous) if one}
        return Champion(str(champion.version), str(previous.version) if previous else None)

    def fetch(self, version: str) -> Path:
        """The copy, which is made at the first call: complete or not at all.

        Raises:
            DataError: there is no space for it, neither in `copies` nor for temporary files.
        """
        copy = self._copies / self._copy_name(version)
        if (copy / SERVED_MODEL).exists():
            with suppress(OSError):  # a folder that may not be written is not cleaned either
                os.utime(copy)
            return copy
        try:
            self._download(version, copy)
        except OSError as error:
            return self._fetch_temporarily(version, error)
        return copy

    def _fetch_temporarily(self, version: str, fault: OSError) -> Path:
        """A copy for this process only, if the disk of the others is full or may not be written."""
        try:
            if version not in self._temporary:
                folder = tempfile.TemporaryDirectory(prefix="reviewtune-champion-")
                self._download(version, Path(folder.name) / self._name)
                self._temporary[version] = folder
        except OSError as error:
            raise DataError(
                f"{self._copies}: {fault.strerror}, and no temporary folder for the champion's copy either "
                f"({error.strerror}); free some space, or make one of them writable"
            ) from error
        return Path(self._temporary[version].name) / self._name

    def remember(self, champion: Champion) -> None:
        known = {"version": champion.version, "previous": champion.previous, "created": self._created}
        with suppress(OSError):  # it is needed only for a start without the registry
            write_text(json.dumps(known), self._newest)
            self._remove_unused(kept={self._copy_name(one) for one in (champion.version, champion.previous) if one})

    def last_known(self) -> Champion | None:
        """The last champion that was fetched on this machine, for a start without the registry."""
        try:
            known = json.loads(self._newest.read_text(encoding="utf-8"))
            self._created |= known["created"]
            return Champion(known["version"], known["previous"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _copy_name(self, version: str) -> str:
        return f"{self._name}-{self._store}-{version}-{self._created.get(version, 0):.0f}"

    def _remove_unused(self, *, kept: AbstractSet[str]) -> None:
        """Remove copies that no alias refers to and that no program of this machine has opened for UNUSED_SECONDS.

        A copy is moved away before its files go, so that nobody takes a part of it for a whole one.
        """
        patterns = (f"{self._name}-{self._store}-*", f"{UNFINISHED}*")
        for path in [path for pattern in patterns for path in self._copies.glob(pattern)]:
            if path.is_dir() and path.name not in kept and time.time() - path.stat().st_mtime > UNUSED_SECONDS:
                with tempfile.TemporaryDirectory(dir=self._copies, prefix=UNFINISHED) as scratch:
                    path.rename(Path(scratch) / path.name)

    @property
    def _newest(self) -> Path:
        return self._copies / f"{self._name}-{self._store}.version"

    def _download(self, version: str, copy: Path) -> None:
        from reviewtune.tracking.registry import download, versions

        found = [one for one in versions(self._settings, self._name) if str(one.version) == version]
        if not found:
            raise TrackingError(f"{self._name} version {version} is no longer in the registry; promote a model again")
        copy.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=copy.parent, prefix=UNFINISHED) as scratch:
            downloaded = download(self._settings, found[0], Path(scratch))
            read_served_model(downloaded)
            try:
                downloaded.rename(copy)
            except OSError:
                if not (copy / SERVED_MODEL).exists():  # otherwise another process was faster
                    raise
