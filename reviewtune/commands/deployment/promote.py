"""The commands `promote`, `champion` and `rollback`: what they print."""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_params
from reviewtune.core.formatting import counted, percent
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.deployment.gates_file import NOT_COMMITTED
from reviewtune.errors import DataError, TrackingError
from reviewtune.tracking import aliases
from reviewtune.tracking.aliases import Change
from reviewtune.tracking.registry import RegisteredVersion, by_alias, download

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reviewtune.deployment.gates_file import Gate, GateReport
    from reviewtune.deployment.promotion import PromoteOptions, Promotion


def promote(options: "PromoteOptions", *, as_json: bool) -> None:
    """Promote, and print the gates; the exit status is 1 if a gate failed and nothing was promoted."""
    from reviewtune.deployment.promotion import promote as promote_candidate

    root = project_root()
    progress = TerminalProgress(sys.stderr if as_json else sys.stdout)
    outcome = promote_candidate(options, _config(), root, progress=progress)
    if as_json:
        print(outcome.report.model_dump_json(indent=2) if outcome.report else "null")
    elif outcome.report:
        print_gates(outcome.report)
    for warning in outcome.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for line in outcome_lines(outcome):
        print(line, file=sys.stderr if as_json else sys.stdout)
    has_passed = outcome.report is not None and outcome.report.decision == "passed"
    sys.exit(0 if outcome.champion or has_passed else 1)


def show_champion(*, out: Path | None, history: bool) -> None:
    """Print who is champion, since when and why; copy its folder to `out`."""
    config = _config()
    champion = _champion_of(config)
    previous, changes = aliases.before(config.tracking, champion), aliases.history(config.tracking, champion.name)
    made = next((change for change in changes if change.completed and change.version == champion.version), None)
    print("\n".join(_described(champion, previous, made)))
    if history:
        _print_history(changes)
    if out:
        _copy(config, champion, out)


def roll_back(reason: str | None, *, version: int | None) -> None:
    """Make the previous champion the champion again.

    Raises:
        TrackingError: there is no champion or no previous one, or `version` is not the champion.
    """
    config = _config()
    champion = _champion_of(config)
    if version is not None and version != champion.version:
        raise TrackingError(
            f"--from {version}: version {champion.version} is champion ({_since(champion)}), so nothing was changed"
        )
    change = aliases.roll_back(
        config.tracking, champion.name, expected=champion.version, reason=reason or "no reason was given"
    )
    print(f"{champion.name}: version {change.version} is champion again, version {change.replaced} is the previous one")
    if change.not_noted:
        print(f"rolled back, but not noted: {change.not_noted}")
    print("applications that follow the registry use it at their next look (every 30 seconds by default)")


def _config() -> Config:
    return load_params(ProjectPaths(project_root()).params)


def _champion_of(config: Config) -> RegisteredVersion:
    champion = by_alias(config.tracking, config.registered_name)
    if champion is None:
        raise TrackingError(f"{config.registered_name} has no champion yet: `reviewtune promote` makes one")
    return champion


def print_gates(report: "GateReport", *, to_stderr: bool = False) -> None:
    """Print the gates as a table."""
    from rich.console import Console

    Console(stderr=to_stderr).print(_gate_table(report))


def _gate_table(report: "GateReport") -> "RenderableType":
    from rich.box import SIMPLE_HEAD

    from reviewtune.core.terminal.tables import FittedTable

    rows = [(gate.name, gate.asked, gate.seen, gate.outcome) for gate in report.gates]
    return FittedTable.of(("gate", "asked", "seen", "outcome"), rows, title=_title(report), box=SIMPLE_HEAD)


def _title(report: "GateReport") -> str:
    accuracy = f", accuracy {100 * report.candidate.accuracy:.1f} %" if report.candidate.accuracy is not None else ""
    who = f"candidate {report.candidate.arm} ({report.candidate.model}){accuracy}"
    return f"{report.name}: {who}, {counted(report.n, 'test review')}"


def outcome_lines(outcome: "Promotion") -> list[str]:
    """What came of a promotion, in lines."""
    champion, change = outcome.champion, outcome.change
    if outcome.report and outcome.report.decision == "passed":
        return ["all gates passed, nothing was promoted: `reviewtune promote` makes it the champion"]
    if champion is None:
        return [_refusal(outcome.report.failed if outcome.report else ())]
    if change is None:
        return [f"already champion: {champion.name} version {champion.version}, {_since(champion)}"]
    lines = [
        f"promoted: {champion.name} version {change.version} is champion, {_how(change)}",
        *outcome.notes,
    ]
    if outcome.froze:
        lines.append("data/frozen_splits.csv keeps the test reviews on their side from now on: commit it")
    if change.replaced:
        lines.append(f"version {change.replaced} is the previous one: `reviewtune rollback` goes back to it")
    return lines


def _refusal(failed: Sequence["Gate"]) -> str:
    force = "`--force --reason TEXT` promotes it anyway, and the reason is kept"
    names = [gate.name for gate in failed]
    can_commit = names == ["git"] and failed[0].seen.startswith(NOT_COMMITTED)
    step = "commit these files and run the command again; " if can_commit else ""
    return f"not promoted: {', '.join(names)} failed; {step}{force}"


def _how(change: Change) -> str:
    return f"{'forced: ' if change.forced else ''}{change.reason}"


def _described(champion: RegisteredVersion, previous: RegisteredVersion | None, made: Change | None) -> list[str]:
    """Who it is; `made` is how it became champion, None: another program set the alias."""
    tags = champion.tags
    facts = {
        "arm": f"{tags.get('arm', '?')} ({tags.get('model', '?')})",
        "since": f"{made.at} by {made.by}" if made else "not known: another program set the alias",
        "why": made.reason if made else None,
        "gates": tags.get("gates"),
        "accuracy": percent(float(tags["accuracy"])) if "accuracy" in tags else None,
        "run": tags.get("evaluation_run"),
        "job": tags.get("job_id"),
        "git": tags.get("git_revision"),
        "data": f"{tags.get('data', '?')}, sha256 {tags.get('data_sha256', '?')[:12]}",
        "previous": f"version {previous.version} ({previous.tags.get('arm', '?')})" if previous else None,
        "address": f"models:/{champion.name}@champion",
    }
    lines = [f"{champion.name} version {champion.version}"]
    return lines + [f"  {name:<9} {fact}" for name, fact in facts.items() if fact]


def _since(champion: RegisteredVersion) -> str:
    return f"since {champion.tags.get('champion_since', '?')} by {champion.tags.get('champion_by', '?')}"


def _print_history(changes: Sequence[Change]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console

    from reviewtune.core.terminal.tables import Column, FittedTable

    table = FittedTable("when", "what", Column("version", right=True), "by", "why", box=SIMPLE_HEAD)
    for change in changes:
        state = "" if change.completed else ", not completed"
        what = f"{change.action}{' (forced)' if change.forced else ''}{state}"
        table.add_row(change.at, what, f"{change.replaced or '-'} to {change.version}", change.by, change.reason)
    Console().print(table)


def _copy(config: Config, champion: RegisteredVersion, out: Path) -> None:
    """Copy the champion's folder; what exists is never replaced.

    Raises:
        DataError: `out` exists and is not an empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"--out {out}: exists already; name a folder that does not exist or is empty")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".reviewtune-", dir=out.parent) as scratch:
        folder = download(config.tracking, champion, Path(scratch))
        if out.exists():
            out.rmdir()
        shutil.move(folder, out)
    print(f"copied to {out}: `ReviewAnalyzer` and `reviewtune serve-app` can use it without the registry")
