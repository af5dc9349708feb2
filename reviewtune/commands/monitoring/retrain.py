"""The command `retrain`: what it prints, and its exit status."""

import sys
from typing import TYPE_CHECKING

from reviewtune.core.config.loading import load_params
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.core.terminal.progress import TerminalProgress

if TYPE_CHECKING:
    from reviewtune.monitoring.retraining.retrain import Retrained, RetrainOptions

REFUSED = 3  # exit status
COMMIT = "commit the changes, or add --commit; then the same command continues"


def retrain(options: "RetrainOptions", *, as_json: bool) -> None:
    """Retrain, and print each step and the decision; the exit status is REFUSED if the gates refused the candidate."""
    from reviewtune.monitoring.retraining.retrain import retrain as run_all

    root = project_root()
    stream = sys.stderr if as_json else sys.stdout
    config = load_params(ProjectPaths(root).params)
    retrained = run_all(options, config, root, output=stream, progress=TerminalProgress(stream))
    if as_json:
        print(retrained.report.model_dump_json(indent=2))
    _print(retrained, to_stderr=as_json)
    sys.exit(REFUSED if retrained.report.decision == "refused" else 0)


def _print(retrained: "Retrained", *, to_stderr: bool) -> None:
    from reviewtune.commands.deployment.promote import outcome_lines, print_gates

    report, promotion = retrained
    stream = sys.stderr if to_stderr else sys.stdout
    if promotion is None:
        print(f"not needed: {report.why_not}", file=stream)
        return
    if promotion.report:
        print_gates(promotion.report, to_stderr=to_stderr)
    for line in [*(f"warning: {warning}" for warning in promotion.warnings), *outcome_lines(promotion)]:
        print(line, file=stream)
    if report.failed_gates == ("git",):
        print(COMMIT, file=stream)
