"""Find the labelled reviews that a run was made with, wherever they are now: the data may be committed after the run.

A copy is the right one if the step prepare makes the table of it whose hash the run recorded.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pandas as pd

from reviewtune.core.atomic_files import write_bytes
from reviewtune.core.config.config import Config, TrackingConfig
from reviewtune.core.config.data import DataConfig
from reviewtune.core.project import project_root
from reviewtune.data.preparation import write_labeled
from reviewtune.data.reviews import sha256
from reviewtune.data.sides.side_names import GIVEN
from reviewtune.errors import DataError, ReviewtuneError
from reviewtune.tracking import git
from reviewtune.tracking.provenance import circumstances
from reviewtune.tracking.queries import artifact_of, artifacts_of
from reviewtune.tracking.runs import RunRecord


class Copy(NamedTuple):
    """A file that may be the data: where it was, and its bytes."""

    where: str
    content: bytes


def place_data(run: RunRecord, config: Config, tracking: TrackingConfig, target: Path, *, cache: Path) -> str:
    """Write the data that the run was made with to their place in the worktree of its revision.

    Args:
        run: the run; its tag data_sha256 is the hash of the prepared table.
        config: the run's configuration.
        tracking: where the run is stored.
        target: their place; what is there already is one of the copies.
        cache: DVC's cache.

    Returns:
        Where the data were.

    Raises:
        DataError: there is no copy, or none of them gives the recorded hash.
    """
    seen = list[Copy]()
    for copy in _copies(run, config, tracking, target, cache):
        if any(copy.content == other.content for other in seen):
            continue
        seen.append(copy)
        if _prepared_sha256(copy.content, config) == run.tags["data_sha256"]:
            write_bytes(copy.content, target)
            return copy.where
    if seen and run.tags.get("code_sha256") != circumstances(project_root())["code_sha256"]:
        write_bytes(seen[0].content, target)  # other code prepared it, so the hash may differ
        return f"{seen[0].where} (not verified: the code of the run is not that of now)"
    looked = "the revision, the workspace, all commits, DVC's cache and remote, and the run's artifacts"
    fault = "no copy of the run's data" if not seen else f"{len(seen)} other versions, but not the run's data"
    raise DataError(
        f"{config.data.path}: {fault} (prepared sha256 {run.tags['data_sha256'][:12]}) in {looked}; "
        "copy the file that the run was made with there, then run the same command again"
    )


def _copies(run: RunRecord, config: Config, tracking: TrackingConfig, target: Path, cache: Path) -> Iterator[Copy]:
    path, root = config.data.path, project_root()
    for where, file in (("the run's revision", target), ("the workspace", root / path)):
        if file.is_file():
            yield Copy(where, file.read_bytes())
    yield from _in_commits(root, path)
    for name in artifacts_of(tracking, run.id):
        if Path(name).name == path.name:
            yield Copy("the run's artifacts", artifact_of(tracking, run.id, name).read_bytes())
    yield from _in_cache(cache, config.data, run.tags["data_sha256"])


def _in_commits(root: Path, path: Path) -> Iterator[Copy]:
    """Every version of the file in the history, and of files with its name in other folders."""
    pattern = f":(top,glob)**/{path.name}"
    changes = git.ask(root, "log", "--all", "--full-history", "-m", "--raw", "--no-abbrev", "--format=", "--", pattern)
    blobs = dict.fromkeys(blob for line in changes.splitlines() for blob in line.split()[2:4] if set(blob) != {"0"})
    for blob in blobs:
        yield Copy(f"a commit (blob {blob[:12]})", git.content(root, blob))


def _in_cache(cache: Path, data: DataConfig, prepared: str) -> Iterator[Copy]:
    """Files with the data's columns, and the prepared table itself with its columns renamed back."""
    header = (data.columns.text.encode(), data.columns.label.encode())
    for file in sorted(cache.glob("files/md5/??/*")):
        with file.open("rb") as stream:
            first_line = stream.readline(100_000)
        if all(name in first_line for name in header):
            yield Copy("DVC's cache", file.read_bytes())
        elif b"text" in first_line and sha256(file) == prepared:
            yield Copy("DVC's cache, as prepared", _as_raw(file, data))


def _as_raw(labeled: Path, data: DataConfig) -> bytes:
    table = pd.read_csv(labeled, dtype=str, keep_default_na=False)
    columns = {"text": data.columns.text, "label": data.columns.label}
    columns |= {"review_id": data.columns.id} if data.columns.id else {}
    columns |= {"label_second": data.columns.second_label} if data.columns.second_label else {}
    columns |= {GIVEN: data.columns.split} if data.columns.split else {}
    return table.rename(columns=columns).to_csv(index=False, lineterminator="\n").encode()


def _prepared_sha256(content: bytes, config: Config) -> str | None:
    """Hash of the table that the step prepare makes of it; None if it refuses the file."""
    with TemporaryDirectory(prefix="reviewtune-") as folder, suppress(ReviewtuneError):
        source, target = Path(folder) / config.data.path.name, Path(folder) / "labeled" / "labeled.csv"
        source.write_bytes(content)
        write_labeled(config, source, target)
        return sha256(target)
    return None
