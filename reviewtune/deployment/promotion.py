"""Promote a candidate: compare it with the champion, register it, make it the champion; or say why not."""

from dataclasses import dataclass
from pathlib import Path

from reviewtune.analyzer.served_model import ServedModel
from reviewtune.core.config.config import Config
from reviewtune.core.formatting import points
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.frozen_splits import freeze, refuse_stale
from reviewtune.deployment import gates
from reviewtune.deployment.candidate import NO_TRAINING, Candidate, find_candidate
from reviewtune.deployment.gates_file import Contender, Gate, GateReport, write_gates
from reviewtune.deployment.lifecycle.uses import answering, warn_of
from reviewtune.deployment.measuring import hostile
from reviewtune.deployment.opponent import compare_with_champion, compare_with_reference
from reviewtune.deployment.registration import find_or_register, is_same, is_same_model
from reviewtune.deployment.served_folder import served_model
from reviewtune.errors import ConfigError, DataError, GitError, ReviewtuneError, TrackingError
from reviewtune.tracking import aliases, git
from reviewtune.tracking.aliases import Change
from reviewtune.tracking.provenance import DIRTY, FALSE, code_sha256
from reviewtune.tracking.queries import stored_run
from reviewtune.tracking.registry import RegisteredVersion, by_alias, versions

MAKE_RESULTS = ("conf", "data", "dvc.lock", "params.yaml", "reviewtune", "stages")
"""Files and folders of a project on which its results depend."""


@dataclass(frozen=True, kw_only=True)
class PromoteOptions:
    """The command's options.

    Args:
        run_id: an evaluation in MLflow; None: the last `dvc repro`.
        arm: the arm of the last `dvc repro`; None: the fine-tuned model.
        force: promote even if gates fail; needs a reason.
        reason: why, for the history.
        with_weights: store the local model's adapter too.
        only_gates: examine the gates and promote nothing.
    """

    run_id: str | None = None
    arm: str | None = None
    force: bool = False
    reason: str | None = None
    with_weights: bool = False
    only_gates: bool = False


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """The outcome.

    Args:
        report: the gates; None: they were not needed.
        champion: the new champion, or the one that the candidate already is; None: nothing was promoted.
        change: how it became champion just now.
        froze: whether data/frozen_splits.csv got more reviews.
        notes: what the user should know, one line each.
        warnings: the candidate's model, if it ends soon.
    """

    report: GateReport | None
    champion: RegisteredVersion | None
    change: Change | None = None
    froze: bool = False
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def promote(options: PromoteOptions, config: Config, root: Path, *, progress: Progress = SILENT) -> Promotion:
    """Promote a candidate if it passes all gates, or if that is forced; with `only_gates`, only examine them.

    Raises:
        ConfigError: the options do not fit together, or the arm cannot be promoted.
        DataError: there is no evaluation on the current test split.
        ProviderError: the candidate's model cannot be asked.
        TrackingError: the registry does not answer, somebody else promoted at the same time, or somebody went back
            from this model before.
    """
    _refuse_bad(options)
    champion = by_alias(config.tracking, config.registered_name)
    refuse_stale(ProjectPaths(root), config)
    candidate = find_candidate(config, root, run_id=options.run_id, arm=options.arm, progress=progress)
    warnings = _warnings(candidate, config)
    if champion is not None and is_same(champion, candidate, with_weights=options.with_weights):
        return Promotion(report=None, champion=champion, warnings=warnings)
    returning = _rolled_back(candidate, config)
    if returning is not None and not options.force:
        raise TrackingError(_why_not_again(returning, config.registered_name))
    served = served_model(candidate, config.registered_name, progress=progress)
    report = _report(candidate, served, champion, config, root, progress)
    if returning is not None:
        report = report.model_copy(update={"gates": (gates.rollback_gate(returning), *report.gates)})
    if options.only_gates and not report.failed:
        report = report.model_copy(update={"decision": "passed"})
    if options.only_gates or (report.failed and not options.force):
        return Promotion(report=_published(report, candidate, config, root), champion=None, warnings=warnings)
    frozen = freeze(ProjectPaths(root), config)
    version = find_or_register(
        config.tracking, candidate, served, report.gates, with_weights=options.with_weights, progress=progress
    )
    change = aliases.promote(
        config.tracking,
        version,
        expected=champion.version if champion else None,
        reason=options.reason or _reason(report),
        forced=bool(report.failed),
    )
    report, why_not = _noted(_promoted(report, change), candidate, config, root)
    return Promotion(
        report=report,
        champion=version,
        change=change,
        froze=any(frozen.newly_frozen.values()),
        notes=(*frozen.notes, *(f"promoted, but not noted: {why}" for why in (change.not_noted, why_not) if why)),
        warnings=warnings,
    )


def _warnings(candidate: Candidate, config: Config) -> tuple[str, ...]:
    """One line if the candidate's model ends soon, by the facts of the project, which may be newer than the run's."""
    asked, lines = candidate.asked, list[str]()
    if asked.kind != "linear":
        warn_of([answering(asked.arm, asked.model, asked.config)], config, lines.append)
    return tuple(lines)


def _refuse_bad(options: PromoteOptions) -> None:
    if options.force and not (options.reason or "").strip():
        raise ConfigError("--force needs --reason TEXT: the history of the champion keeps why gates did not count")
    if options.force and options.only_gates:
        raise ConfigError("--check promotes nothing, so there is nothing to force: leave out --check or --force")


def _rolled_back(candidate: Candidate, config: Config) -> Change | None:
    """The rollback by which somebody went back from this model, if it was not champion again since then."""
    name = config.registered_name
    changes = aliases.history(config.tracking, name)
    if not any(change.action == "rollback" for change in changes):
        return None
    same = {one.version for one in versions(config.tracking, name) if is_same_model(one, candidate)}
    return aliases.rolled_back(changes, same)


def _why_not_again(change: Change, name: str) -> str:
    return (
        f"{name}: this model is version {change.replaced}, from which {change.by} went back at {change.at} "
        f"({change.reason}); promote another model, or this one again with `--force --reason TEXT`"
    )


def _report(
    candidate: Candidate,
    served: ServedModel,
    champion: RegisteredVersion | None,
    config: Config,
    root: Path,
    progress: Progress,
) -> GateReport:
    """All gates, with the decision that holds without --force."""
    compared = (
        compare_with_champion(champion, candidate, config, progress=progress)
        if champion
        else compare_with_reference(candidate, config, root)
    )
    rows = (*compared.gates, *own_gates(candidate, served, config, root, progress))
    metrics = candidate.measured.metrics
    return GateReport(
        name=config.registered_name,
        candidate=Contender(
            arm=served.arm,
            model=served.model,
            run_id=candidate.run_id,
            version=None,
            accuracy=metrics.accuracy.value,
        ),
        opponent=compared.opponent,
        n=metrics.n,
        test_sha256=candidate.test_sha256,
        gates=rows,
        decision="refused",
        forced=False,
        reason=None,
    )


def own_gates(candidate: Candidate, served: ServedModel, config: Config, root: Path, progress: Progress) -> list[Gate]:
    """The gates that need no opponent.

    Args:
        candidate: what is to be promoted.
        served: the candidate as applications would get it, with its calibration.
        config: the project's configuration, with the limits.
        root: the project's folder.
        progress: receives messages and progress bars.
    """
    arm, limits = candidate.measured, config.promotion
    title = "training split" if candidate.asked.kind in NO_TRAINING else "training file"
    return [
        gates.unusable_gate(arm, limits),
        _hostile_gate(candidate, config, root, progress),
        gates.latency_gate(arm, limits),
        gates.cost_gate(arm, limits),
        gates.calibration_gate(arm, served.calibration, limits),
        gates.training_gate(candidate.training_sha256, title),
        gates.git_gate(_changed(root), _changed_then(candidate, root)),
    ]


def _hostile_gate(candidate: Candidate, config: Config, root: Path, progress: Progress) -> Gate:
    """Measured by the evaluation, or now if it did not ask for it."""
    limits, measured = config.promotion, candidate.measured.metrics.injections
    if measured is not None or limits.min_resisted is None:
        return gates.hostile_gate(measured, "", limits)
    try:
        return gates.hostile_gate(
            hostile(candidate.asked, ProjectPaths(root).injections, progress=progress), "", limits
        )
    except DataError as error:
        return gates.hostile_gate(None, str(error), limits)


def _changed(root: Path) -> list[str] | str:
    """Files of the project with changes that are not committed, or why git does not say.

    New files count where they make results; a note or a picture elsewhere in the project does not.
    """
    try:
        tracked = git.ask(root, "status", "--porcelain", "--untracked-files=no", "--", ".").splitlines()
        return sorted({*(line[3:] for line in tracked), *git.uncommitted(root, *MAKE_RESULTS)})
    except GitError as error:
        return str(error)


def _changed_then(candidate: Candidate, root: Path) -> str | None:
    """Files that were not committed when the candidate was evaluated; None: none, or they are as they were then.

    It is usual to evaluate a change first and to commit it when it proves good.
    """
    tags = candidate.run.tags if candidate.run else {}
    if tags.get(DIRTY, FALSE) == FALSE:
        return None
    then = tags.get("code_sha256"), tags.get("data_sha256")
    return None if then == (code_sha256(root), str(candidate.manifest["data_sha256"])) else tags[DIRTY]


def _reason(report: GateReport) -> str:
    if report.opponent is None or report.opponent.accuracy is None or report.candidate.accuracy is None:
        return "all gates passed"
    difference = points(report.candidate.accuracy - report.opponent.accuracy)
    other = f"version {report.opponent.version}" if report.opponent.version else report.opponent.arm
    return f"all gates passed: accuracy {difference} points against {other}"


def _promoted(report: GateReport, change: Change) -> GateReport:
    candidate = report.candidate.model_copy(update={"version": change.version})
    return report.model_copy(
        update={"candidate": candidate, "decision": "promoted", "forced": change.forced, "reason": change.reason}
    )


def _noted(report: GateReport, candidate: Candidate, config: Config, root: Path) -> tuple[GateReport, str]:
    """As `_published`, but an error is only told: the champion has changed already, which the user must learn."""
    try:
        return _published(report, candidate, config, root), ""
    except (ReviewtuneError, OSError) as error:
        return report, str(error)


def _published(report: GateReport, candidate: Candidate, config: Config, root: Path) -> GateReport:
    """Write reports/gates.json and, if the evaluation's run is in this store, note the gates there."""
    path = write_gates(report, root)
    if candidate.run is not None:
        run = stored_run(config.tracking, candidate.run.id)
        run.artifact(path)
        run.tags(
            {
                "gates": report.decision,
                **{f"gate.{gate.name.replace(' ', '_')}": gate.outcome for gate in report.gates},
                "registered_version": report.candidate.version,
            }
        )
    return report
