"""`reviewtune compare`: print the comparison; with --html also write it as a page and log a copy to its MLflow run."""

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reviewtune.core.html_page import refuse_foreign
from reviewtune.core.outputs import Output
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.errors import ConfigError, ReviewtuneError
from reviewtune.evaluation.comparison.comparison_file import COMPARISON_FILE, Comparison, read_comparison

if TYPE_CHECKING:
    from reviewtune.deployment.gates_file import GateReport


@dataclass(frozen=True)
class CompareOptions:
    """What the command line asked for; see the help texts in `main`."""

    reports: Path | None = None
    html: Path | None = None
    texts: bool = True


def compare(options: CompareOptions) -> None:
    """Print the comparison, write its page if requested.

    Raises:
        DataError: there is no comparison, the page cannot be written, or the files do not fit each other.
    """
    from rich.console import Console

    from reviewtune.evaluation.comparison.console_report import print_comparison

    reports = options.reports or ProjectPaths(project_root()).reports
    target = _checked(options.html) if options.html else None
    comparison = read_comparison(reports)
    page = _page(comparison, reports, texts=options.texts) if target else ""
    print_comparison(comparison, Console(stderr=bool(target and target.is_stdout)))
    if target:
        target.write_text(page)
        print(f"page: {target.path}", file=sys.stderr)
        print(_logged(page, comparison, reports), file=sys.stderr)
    _warn()


def _warn() -> None:
    """What the project depends on and ends soon. The comparison may be another project's, so params.yaml may lack."""
    from reviewtune.core.config.loading import load_params
    from reviewtune.deployment.lifecycle.uses import configured, warn_of

    with suppress(ConfigError):
        config = load_params(ProjectPaths(project_root()).params)
        warn_of(configured(config), config, lambda line: print(f"warning: {line}", file=sys.stderr))


def _checked(path: Path) -> Output:
    from reviewtune.evaluation.comparison_page.page import COMMAND, GENERATOR

    target = Output.checked(path, option="--html")
    refuse_foreign(target, GENERATOR, COMMAND)
    return target


def _page(comparison: Comparison, reports: Path, *, texts: bool) -> str:
    from reviewtune.evaluation.comparison_page.files import load_arms, read_texts
    from reviewtune.evaluation.comparison_page.page import GateRow, PageInput, to_html

    arms = load_arms(comparison, reports)
    test = ProjectPaths(reports.absolute().parent).splits.test
    reviews = read_texts(comparison, test) if texts else {}
    report = _gates(comparison, reports)
    if report is None:
        return to_html(PageInput(comparison, arms, reviews))
    rows = [GateRow(gate.name, gate.asked, gate.seen, gate.outcome) for gate in report.gates]
    forced = f", although gates failed: {report.reason}" if report.forced else ""
    decision = f"{report.candidate.arm} ({report.candidate.model}) was {report.decision}{forced}."
    return to_html(PageInput(comparison, arms, reviews, gates=rows, gates_of=decision))


def _gates(comparison: Comparison, reports: Path) -> "GateReport | None":
    """The gates of the last `reviewtune promote`, if they were asked on this comparison's test split."""
    from reviewtune.deployment.gates_file import GATES_FILE, read_gates

    if not (reports / GATES_FILE).exists():
        return None
    report = read_gates(reports)
    return report if report.test_sha256 == comparison.test_sha256 else None


def _logged(page: str, comparison: Comparison, reports: Path) -> str:
    """Log the page to the comparison's run; returns a line on it. A failure costs nobody the page."""
    from reviewtune.core.config.loading import load_params
    from reviewtune.evaluation.comparison_page.page import PAGE_FILE
    from reviewtune.tracking.queries import run_with_file, stored_run

    if not any(arm.mlflow_run_id for arm in comparison.arms):
        return "not logged to MLflow: the arms have no runs"
    query = f"tags.kind = 'comparison' and tags.test_sha256 = '{comparison.test_sha256}'"
    try:
        tracking = load_params(ProjectPaths(project_root()).params).tracking
        run = run_with_file(tracking, query, reports / COMPARISON_FILE)
        if run is None:
            return f"not logged to MLflow: no run holds this {COMPARISON_FILE}"
        stored_run(tracking, run.id).text(page, PAGE_FILE)
    except ReviewtuneError as error:
        return f"not logged to MLflow: {error}"
    return f"logged to MLflow: {PAGE_FILE} of run {run.id}"
