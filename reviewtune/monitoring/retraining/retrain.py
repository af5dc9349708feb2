"""From merged labels to a decision: check, commit, `dvc repro`, gates, promotion; a killed command continues."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TextIO

from filelock import FileLock, Timeout

from reviewtune.core.config.arms import FINETUNED
from reviewtune.core.config.config import Config
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.progress import Progress
from reviewtune.deployment.candidate import refuse_unpromotable
from reviewtune.deployment.promotion import PromoteOptions, Promotion, promote
from reviewtune.errors import DataError, TrackingError
from reviewtune.monitoring.retraining import commits
from reviewtune.monitoring.retraining.earlier_champion import earlier_champion
from reviewtune.monitoring.retraining.need import Need, look
from reviewtune.monitoring.retraining.pipeline import wait_for
from reviewtune.monitoring.retraining.report_file import Decision, Retraining, order_of, read_last
from reviewtune.monitoring.retraining.steps import COMMIT_DATA, COMMIT_RESULTS, COMMIT_SIDES, GATES, Steps
from reviewtune.providers.budget import shared
from reviewtune.tracking.process import is_running
from reviewtune.tracking.registry import RegisteredVersion, by_alias
from reviewtune.tracking.store import readable

SIDES = ("data/frozen_splits.csv",)


@dataclass(frozen=True, kw_only=True)
class RetrainOptions:
    """The command's options.

    Args:
        if_needed: do nothing unless the section `retraining` says that it is worth it.
        promote: make the candidate the champion if all gates pass.
        commit: commit labels and results.
        arm: the candidate's arm; None: the champion's, or the fine-tune without one.
    """

    if_needed: bool = False
    promote: bool = False
    commit: bool = False
    arm: str | None = None


class Retrained(NamedTuple):
    """The outcome; without a promotion the gates were not reached."""

    report: Retraining
    promotion: Promotion | None = None


def retrain(options: RetrainOptions, config: Config, root: Path, *, output: TextIO, progress: Progress) -> Retrained:
    """Go through all steps, or say why it is not needed.

    Args:
        options: the command's options.
        config: the project's configuration.
        root: the project's folder.
        output: a real file, for what `dvc repro` prints.
        progress: receives each step.

    Raises:
        ConfigError: the arm cannot be promoted.
        DataError: the raw data cannot be used, `dvc repro` failed, or another `reviewtune retrain` runs.
        BudgetError: the steps could cost more than evaluation.budget_usd in total.
        GitError: git refused to commit.
        ProviderError: a model cannot be asked.
        TrackingError: MLflow does not answer, or its store was lost.
    """
    if options.arm:
        refuse_unpromotable(options.arm, None, config, None)
    with _alone(root):
        last = read_last(root)
        if last and last.process:
            wait_for_pipeline(last.process, progress)
        champion = by_alias(config.tracking, config.registered_name)
        if champion is None:
            _refuse_lost_store(options, config, root, progress)
        need = look(config, root, champion)
        arm = options.arm or (champion.tags.get("arm") if champion else None) or FINETUNED
        report = _new_report(need, champion, config, root, arm)
        before = last if last and last.order == report.order else None
        # A promotion that was cut off has frozen the sides already, so no label is new any more.
        unfinished = before is not None and before.decision == "unfinished"
        why_not = need.why_not or _decided_before(before, options)
        if options.if_needed and why_not and not unfinished:
            return Retrained(report.model_copy(update={"decision": "not needed", "why_not": why_not}))
        with shared(f"retraining-{report.order[:16]}"):
            return _run(Steps(report, before, root, progress), options, config, arm, output)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    lock = ProjectPaths(root).work / "retraining.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout as error:
        raise DataError(f"{root}: another `reviewtune retrain` works here, so nothing was done; wait for it") from error


def _refuse_lost_store(options: RetrainOptions, config: Config, root: Path, progress: Progress) -> None:
    """Nothing may become champion unseen because the store that knows the champion was lost."""
    earlier = earlier_champion(config, root)
    if not earlier:
        return
    store = readable(config.tracking.uri) if config.tracking.uri else "mlruns/"
    what = f"{config.registered_name} has no champion in MLflow's store {store}, but there was one ({earlier})"
    remedy = "restore the store or correct tracking.uri; if it is lost, `reviewtune promote` makes a first champion"
    if options.if_needed or options.promote:
        raise TrackingError(f"{what}, so nothing was done: {remedy}")
    progress.message(f"warning: {what}: {remedy}")


def wait_for_pipeline(process: str, progress: Progress) -> None:
    """Wait for a `dvc repro` that a killed call left behind: two at once would disturb each other."""
    if is_running(process):
        number = process.rsplit(":", 2)[1]
        progress.message(f"the `dvc repro` of a killed command still runs (process {number}): waiting until it ends")
        wait_for(process)


def _new_report(need: Need, champion: RegisteredVersion | None, config: Config, root: Path, arm: str) -> Retraining:
    version = champion.version if champion else None
    return Retraining(
        name=config.registered_name,
        order=order_of(root / config.data.path, config, config.registered_name, version, arm),
        new_labels=need.new_labels,
        reasons=need.reasons,
        why_not="",
        champion_before=version,
        steps=(),
        process=None,
        decision="unfinished",
        failed_gates=(),
        champion=version,
        decided_on=None,
    )


def _decided_before(before: Retraining | None, options: RetrainOptions) -> str:
    """Why the same question needs no second answer; empty: there is none yet, or the promotion is still to be done."""
    if before is None or not before.is_decided or (before.decision == "passed" and options.promote):
        return ""
    gates = f" by the gates {', '.join(before.failed_gates)}" if before.failed_gates else ""
    return f"{before.decision}{gates} on {before.decided_on}; labels, settings and champion are the same since"


def _run(steps: Steps, options: RetrainOptions, config: Config, arm: str, output: TextIO) -> Retrained:
    name = config.registered_name
    refuse_unpromotable(arm, None, config, None)  # of a champion too: not only after a training that was paid for
    steps.note()
    _say_why(steps, config)
    steps.check_data(config)
    if options.commit:  # before the pipeline, so that its runs name a revision that has their data
        steps.commit(COMMIT_DATA, commits.inputs(config), f"Add labels for a retraining of {name}")
    steps.pipeline(output)
    if options.commit:
        steps.commit(COMMIT_RESULTS, commits.RESULTS, f"Retrain {name}")
    promotion = _gates(steps, options, config, arm)
    if options.commit and promotion.froze:
        steps.commit(COMMIT_SIDES, SIDES, f"Freeze the reviews that {name} version {steps.report.champion} knows")
    return Retrained(steps.report, promotion)


def _say_why(steps: Steps, config: Config) -> None:
    report, cap = steps.report, config.evaluation.budget_usd
    steps.progress.message(f"why: {'; '.join(report.reasons) or f'it was asked for ({report.new_labels} new labels)'}")
    if cap is not None:
        steps.progress.message(f"all steps together may cost {cap:g} USD (evaluation.budget_usd)")


def _gates(steps: Steps, options: RetrainOptions, config: Config, arm: str) -> Promotion:
    own = PromoteOptions(arm=None if arm == FINETUNED else arm, only_gates=not options.promote)
    words = ["reviewtune promote", *([f"--arm {own.arm}"] if own.arm else []), *(["--check"] if own.only_gates else [])]
    made: list[Promotion] = []

    def do() -> str:
        made.append(promote(own, config, steps.root, progress=steps.progress))
        return _decision(made[0])

    steps.run(GATES, " ".join(words), do)
    report, champion = made[0].report, made[0].champion
    steps.note(
        decision=_decision(made[0]),
        failed_gates=tuple(gate.name for gate in report.failed) if report else (),
        champion=champion.version if champion else steps.report.champion_before,
        decided_on=datetime.now(UTC).date().isoformat(),
    )
    return made[0]


def _decision(promotion: Promotion) -> Decision:
    if promotion.report is None:
        return "already champion"
    return promotion.report.decision
