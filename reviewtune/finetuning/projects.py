"""The projects that use the local provider's account, so that cleaning one leaves what another one needs.

All projects of a user share the account, and equal orders are one job: two clones of a project have the same model.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from reviewtune.core.atomic_files import read_json, write_text
from reviewtune.core.project import ProjectPaths
from reviewtune.core.user_dirs import account_folder
from reviewtune.finetuning.job_notes import notes_in

FOLDER = "projects"  # in the account, one file for each project with the path of its folder


def remember(root: Path) -> None:
    """Note that the project in this folder uses the account."""
    path = str(root.resolve())
    note = account_folder() / FOLDER / hashlib.sha256(path.encode()).hexdigest()[:16]
    if not note.exists():
        write_text(path, note)


def needed_by_others(root: Path) -> set[str]:
    """Ids of jobs and names of models that other projects of this account refer to, as far as they still exist."""
    notes = (account_folder() / FOLDER).glob("*")
    roots = {Path(note.read_text(encoding="utf-8")) for note in notes} - {root.resolve()}
    return {name for other in roots for name in _named_in(ProjectPaths(other))}


def _named_in(paths: ProjectPaths) -> Iterator[str]:
    for file in (paths.model_record, *notes_in(paths.root)):
        with suppress(OSError, ValueError, TypeError):
            content = read_json(file)
            yield from (str(content[name]) for name in ("job_id", "model") if name in content)
