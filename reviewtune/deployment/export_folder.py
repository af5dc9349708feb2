"""The folder of an export: it appears complete or not at all, and replaces only an earlier export."""

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from pydantic import Field

from reviewtune.core.result_file import ResultFile
from reviewtune.errors import DataError

MARKER = "reviewtune_export.json"


class ExportRecord(ResultFile):
    """What an exported folder holds; it also marks the folder as one that an export made."""

    model: str = Field(description="the model's name at the local provider")
    kind: str = Field(description="merged: all weights; adapter: a low-rank adapter of the base model")
    base_model: str = Field(description="the model that the training started from")
    job_id: str = Field(description="id of the fine-tuning job; empty for a base model")
    run_id: str = Field(description="id of the MLflow run; empty: not known")
    data: str = Field(description="data.name at the training; empty: not known")
    data_sha256: str = Field(description="hash of the labelled reviews that were split; empty: not known")
    training_sha256: str = Field(description="hash of the training file; empty: not known")
    prompt_fingerprint: str = Field(description="hash of the prompt that the README describes")
    labels: dict[str, str] = Field(description="the labels and what they mean")


def refuse_bad_out(out: Path, *, force: bool) -> None:
    """Check the folder before the work begins.

    Raises:
        DataError: it cannot be written, or holds files that would be lost.
    """
    existing = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise DataError(f"--out {out}: {existing} is not a folder; name another folder")
    parent = out.resolve().parent if existing == out else existing
    if not os.access(parent, os.W_OK):
        raise DataError(f"--out {out}: you may not write in {parent}; name another folder")
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / MARKER).is_file():
        raise DataError(f"--out {out}: the folder has files that no export wrote; name another folder")
    if not force:
        raise DataError(f"--out {out}: an earlier export is there; name another folder, or replace it with --force")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """An empty folder next to `out`, which takes its place at the end of the block.

    After an exception nothing is left, and an earlier folder is as it was. What a killed export left is removed.
    """
    place = Path(os.path.realpath(out))
    made = [parent for parent in place.parents if not parent.exists()]
    place.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(place)
    work = place.with_name(f".{place.name}.{os.getpid()}.partial")
    try:
        work.mkdir()
        yield work
        _put_in_place(work, place)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        with suppress(OSError):  # someone else uses it by now
            for parent in made:
                parent.rmdir()
        raise


def _put_in_place(work: Path, place: Path) -> None:
    if not place.exists() or not any(place.iterdir()):
        work.replace(place)
        return
    old = place.with_name(f".{place.name}.{os.getpid()}.old.partial")
    place.replace(old)
    try:
        work.replace(place)
    except BaseException:
        old.replace(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _remove_left_over(place: Path) -> None:
    for folder in place.parent.glob(f".{glob.escape(place.name)}.*.partial"):
        pid = folder.name.removeprefix(f".{place.name}.").partition(".")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
