"""Commit what a retraining reads and writes, and nothing else: the gate `git` asks for it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from reviewtune.core.config.config import Config
from reviewtune.errors import GitError
from reviewtune.tracking import git

RESULTS = ("dvc.lock", "reports")
REMEDY = "commit yourself, or set user.name and user.email; then the same command continues"


def inputs(config: Config) -> tuple[str, ...]:
    """The files that labels come into: raw data, queues, frozen sides."""
    data = config.data.path
    own = () if data.is_absolute() or ".." in data.parts else (data.as_posix(), f"{data.as_posix()}.dvc")
    return (*own, "data/queues", "data/frozen_splits.csv")


def command(root: Path, paths: Sequence[str], message: str) -> str:
    """The command that `commit` stands for."""
    return shlex.join(["git", "commit", "-m", message, "--", *_present(root, paths)])


def commit(root: Path, paths: Sequence[str], message: str) -> str:
    """Commit the changes of these files and folders; returns the revision, empty if nothing changed.

    What is staged in other files stays staged.

    Raises:
        GitError: git is missing or refused.
    """
    present = _present(root, paths)
    if not present:  # without a path git would add and commit everything
        return ""
    git.ask(root, "add", "-A", "--", *present)
    if not git.attempt(root, "diff", "--cached", "--quiet", "--", *present).returncode:
        return ""
    done = git.attempt(root, "commit", "-q", "-m", message, "--", *present)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"it ended with status {done.returncode}").splitlines()
        raise GitError(f"`git commit` in {root}: {said[0]}; {REMEDY}")
    return git.ask(root, "rev-parse", "--short", "HEAD").strip()


def _present(root: Path, paths: Sequence[str]) -> list[str]:
    """Those that exist and that git does not ignore, as it does data that DVC keeps: git would refuse the others."""
    return [path for path in paths if (root / path).exists() and not _is_ignored(root, path)]


def _is_ignored(root: Path, path: str) -> bool:
    return git.attempt(root, "check-ignore", "-q", "--", path).returncode == 0
