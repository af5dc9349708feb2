"""Ask git about the project's history. A question that git does not answer is an error, never an empty answer."""

import os
import subprocess
from pathlib import Path

from reviewtune.errors import GitError

# Variables with which a hook or an alias points git at its own repository.
LOCAL_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")

# Text in git's message -> what the user can do about it; the first match counts.
NEXT_STEPS = {
    "dubious ownership": "`git config --global --add safe.directory {folder}` says that you trust it",
    "not a git repository": "copy the project with its .git folder, or run `git init` if it has no history",
    "partial clone": "`git fetch --refetch` gets the rest of the history",
}
ELSE = "`git fsck` shows what is damaged"


def ask(folder: Path, *words: str) -> str:
    """The output of a git command in the folder.

    Raises:
        GitError: git is not installed, or it refused.
    """
    done = attempt(folder, *words)
    if done.returncode:
        said = done.stderr.strip() or f"`git {words[0]}` ended with status {done.returncode}"
        step = next((step for pattern, step in NEXT_STEPS.items() if pattern in said), ELSE)
        raise GitError(f"git in {folder}: {said.splitlines()[0]}; {step.format(folder=folder)}")
    return done.stdout


def attempt(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """A git command in the folder, whatever its exit status.

    Raises:
        GitError: git is not installed.
    """
    done = _run(folder, *words)
    output, message = (part.decode("utf-8", "replace") for part in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, output, message)


def content(folder: Path, blob: str) -> bytes:
    """The bytes of a file in the history, by the id that git gives its content.

    Raises:
        GitError: git refused.
    """
    ask(folder, "cat-file", "-e", blob)
    return _run(folder, "cat-file", "blob", blob).stdout


def _run(folder: Path, *words: str) -> "subprocess.CompletedProcess[bytes]":
    environment = {name: value for name, value in os.environ.items() if name not in LOCAL_VARIABLES}
    command = ["git", "-C", str(folder), *words]
    try:
        return subprocess.run(command, capture_output=True, env={**environment, "LC_ALL": "C"})
    except FileNotFoundError as error:
        raise GitError("git is not installed, or not on PATH; install it") from error


def uncommitted(folder: Path, *places: str) -> list[str]:
    """Files below these places, relative to the repository, that are new or differ from the last commit.

    Raises:
        GitError: git refused.
    """
    lines = ask(folder, "status", "--porcelain", "--untracked-files=all", "--", *places).splitlines()
    return [line[3:] for line in lines]


def refuse_incomplete(folder: Path) -> None:
    """Refuse a history that ends early.

    Raises:
        GitError: the repository is a shallow clone, or git refused.
    """
    if ask(folder, "rev-parse", "--is-shallow-repository").strip() != "false":
        raise GitError(f"git in {folder}: a shallow clone, whose history ends early; run `git fetch --unshallow`")


def every_version(folder: Path, *patterns: str) -> str:
    """The changes of all files that match, in all commits of all branches, tags, experiments and stashes, as patches.

    Args:
        folder: in the repository.
        *patterns: paths such as "models/run.json", below any folder: the project may have been in a different one.

    Raises:
        GitError: the history is incomplete, or git refused.
    """
    refuse_incomplete(folder)
    stashes = ask(folder, "stash", "list", "--format=%H").split()
    # Every side of every merge, and plain text whatever the user's configuration and attributes say.
    options = ("--full-history", "-m", "-p", "--text", "--no-textconv", "--no-ext-diff", "--no-color", "--format=")
    return ask(folder, "log", "--all", *stashes, *options, "--", *(f":(top,glob)**/{name}" for name in patterns))
