"""The command `rebase`: what it prints."""

import sys
from typing import TYPE_CHECKING

from reviewtune.core.config.loading import load_params
from reviewtune.core.formatting import counted
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import NoReturn

    from reviewtune.core.config.config import Config
    from reviewtune.deployment.rebase.parity_file import RebaseReport
    from reviewtune.deployment.rebase.rebase import RebaseOptions
    from reviewtune.deployment.rebase.teacher import TeacherOptions


NOT_JUDGED = 3
"""Exit status if no review has a label of a person, so that nobody can say whether the new model is as good."""


def rebase(options: "RebaseOptions", *, as_json: bool) -> None:
    """Train the new model, and print the parity report; the exit status is 1 if a gate failed."""
    from reviewtune.deployment.rebase.rebase import rebase as move
    from reviewtune.deployment.rebase.without_labels import labels_are_lost

    root = project_root()
    config, progress = load_params(ProjectPaths(root).params), TerminalProgress(sys.stderr if as_json else sys.stdout)
    if options.teacher and labels_are_lost(config, root):
        _without_labels(options, options.teacher, config, root, progress, as_json=as_json)
    report = move(options, config, root, progress=progress)
    if as_json:
        print(report.model_dump_json(indent=2))
    else:
        _print(report)
    sys.exit(0 if report.verdict == "passed" else 1)


def _without_labels(
    options: "RebaseOptions",
    teacher: "TeacherOptions",
    config: "Config",
    root: "Path",
    progress: TerminalProgress,
    *,
    as_json: bool,
) -> "NoReturn":
    """Print the agreement report; the exit status is NOT_JUDGED."""
    from reviewtune.deployment.rebase import agreement_file as agreement
    from reviewtune.deployment.rebase.without_labels import rebase_without_labels

    report = rebase_without_labels(options.provider, options.overrides, teacher, config, root, progress=progress)
    if as_json:
        print(report.model_dump_json(indent=2))
    else:
        _print_table(agreement.LABELS, agreement.label_rows(report), title=f"{report.data}, by label")
        print("\n".join(agreement.agreement_sentences(report)))
    sys.exit(NOT_JUDGED)


def options_of(
    *,
    provider: str,
    overrides: "Sequence[str]",
    teacher: str | None,
    reviews: "Path | None",
    text_column: str | None,
    budget_usd: float | None,
) -> "RebaseOptions":
    """The options, checked.

    Raises:
        ConfigError: an option lacks another one that it belongs to.
    """
    from reviewtune.deployment.rebase.rebase import RebaseOptions
    from reviewtune.deployment.rebase.teacher import TeacherOptions

    if teacher is None or reviews is None:
        for name, value in {"--teacher": teacher, "--reviews": reviews, "--text-column": text_column}.items():
            if value is not None:
                missing = "--reviews FILE" if teacher is not None else "--teacher MODEL"
                raise ConfigError(f"{name} needs {missing}: the old model is asked about reviews without a label")
        if budget_usd is not None:
            raise ConfigError("--budget-usd caps the answers of --teacher; for training there is evaluation.budget_usd")
        return RebaseOptions(provider=provider, overrides=overrides)
    asked = TeacherOptions(model=teacher, reviews=reviews, text_column=text_column, budget_usd=budget_usd)
    return RebaseOptions(provider=provider, overrides=overrides, teacher=asked)


def _print(report: "RebaseReport") -> None:
    from reviewtune.deployment.rebase import report_tables as tables

    title = f"{report.data}, {counted(report.n, 'test review')}"
    _print_table(tables.SIDES, tables.side_rows(report), title=title)
    _print_table(tables.LABELS, tables.label_rows(report), title="by label")
    _print_table(tables.GATES, tables.gate_rows(report), title="gates")
    for line in [*tables.sentences(report), tables.conclusion(report)]:
        print(line)


def _print_table(columns: "Sequence[str]", rows: "Sequence[Sequence[str]]", *, title: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console

    from reviewtune.core.terminal.tables import FittedTable

    if rows:
        Console().print(FittedTable.of(columns, rows, title=title, box=SIMPLE_HEAD))
