"""`reviewtune lifecycle`: what it prints."""

import sys

from rich.box import SIMPLE_HEAD
from rich.console import Console

from reviewtune.core.config.loading import load_params
from reviewtune.core.formatting import NONE, counted, listed
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.core.terminal.tables import Column, FittedTable
from reviewtune.deployment.lifecycle.report import LifecycleReport, LifecycleRow, report

WAY_OUT = "`reviewtune rebase --provider local` moves to another provider (docs/operations.md)"
PIPED_WIDTH = 200  # characters; a pipe has no width, and names must not be cut

ENDS_SOON = 3
"""Exit status if something ends within lifecycle.warn_days; 2 is a wrong option."""
UNKNOWN = 1
"""Exit status if a part of what the project uses could not be looked up; that of errors, so that cron sends a mail."""
WORDS = {"shutdown": "answers", "last_training_day": "new jobs", None: NONE}


def show(*, as_json: bool) -> None:
    """Print the report; the exit status says whether something ends soon."""
    paths = ProjectPaths(project_root())
    found = report(load_params(paths.params), paths)
    if as_json:
        print(found.model_dump_json(indent=2))
    else:
        _print(found)
    sys.exit(ENDS_SOON if found.ends_soon else UNKNOWN if found.unknown_uses else 0)


def _print(found: LifecycleReport) -> None:
    on, days, source = Column("on", right=True), Column("days", right=True), Column("source", spare=1)
    table = FittedTable("model", "provider", "used by", "ends", on, days, source, box=SIMPLE_HEAD)
    for row in found.rows:
        left = NONE if row.days_left is None else str(row.days_left)
        users = ", ".join(row.used_by)
        table.add_row(row.model, row.provider, users, WORDS[row.event], _date(row), left, row.source or "")
    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)
    lines = [*(f"note: {note}" for note in found.notes), *(f"not seen: {what}" for what in found.missing)]
    print("\n".join([*lines, _conclusion(found)]))


def _conclusion(found: LifecycleReport) -> str:
    within = f"within {counted(found.warn_days, 'day')}"
    soon = list(dict.fromkeys(row.model for row in found.ends_soon))
    if not soon and found.unknown_uses:
        return f"of what could be seen, nothing is known to end {within}: make the rest readable, then look again"
    if not soon:
        return f"nothing is known to end {within}"
    return f"ended or ends {within}: {listed(soon, shown=3)}; {WAY_OUT}"


def _date(row: LifecycleRow) -> str:
    if row.date is None:
        return "no end (local)" if row.provider == "local" else "not known"
    return f"{row.date}{' or later' if row.not_before else ''}"
