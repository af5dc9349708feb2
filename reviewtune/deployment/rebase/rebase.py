"""Move to another provider: ask the old model while it answers, train the new one, compare both.

The same command continues after any end: answers are in the answer cache and in data/teacher/, and the job is found
again by its files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reviewtune.core.atomic_files import read_json, write_text
from reviewtune.core.config.arms import FINETUNED
from reviewtune.core.config.config import Config
from reviewtune.core.folders import using
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.frozen_splits import refuse_stale
from reviewtune.data.preparation import read_splits
from reviewtune.data.splits import Splits
from reviewtune.deployment.candidate import Candidate
from reviewtune.deployment.measuring import Asked, as_arm
from reviewtune.deployment.rebase.new_settings import NewSettings, new_settings
from reviewtune.deployment.rebase.old_model import Measured, OldModel, find_old, measure_old
from reviewtune.deployment.rebase.parity import agreement, paired_test, parity_gates, side
from reviewtune.deployment.rebase.parity_file import MARKDOWN, KeptAnswers, RebaseReport, report_folder, write_report
from reviewtune.deployment.rebase.report_tables import to_markdown
from reviewtune.deployment.rebase.teacher import TeacherOptions, learn_from, read_reviews_of, with_budget
from reviewtune.deployment.rebase.training import NewModel, train_and_evaluate, write_chat
from reviewtune.errors import DataError
from reviewtune.tracking.queries import run_or_none, stored_run


@dataclass(frozen=True, kw_only=True)
class RebaseOptions:
    """The command's options.

    Args:
        provider: the new provider, a file of conf/provider.
        overrides: settings of the new model, such as `provider.base_model=llama-3`.
        teacher: the old model is asked about reviews without a label, and its answers are training data too; None: the
            new model is trained on the labelled reviews alone.
    """

    provider: str
    overrides: Sequence[str] = ()
    teacher: TeacherOptions | None = None


@dataclass(frozen=True, kw_only=True)
class _Move:
    """What is known before the new model is trained."""

    project: Config
    root: Path
    settings: NewSettings
    old: OldModel
    measured: Measured
    splits: Splits

    @property
    def paths(self) -> ProjectPaths:
        return ProjectPaths(self.root)


def rebase(options: RebaseOptions, config: Config, root: Path, *, progress: Progress = SILENT) -> RebaseReport:
    """Train the champion's data on another provider, and compare the new model with the old one.

    Args:
        options: of the command.
        config: the project's params.yaml.
        root: the project's folder.
        progress: receives messages and progress bars.

    Raises:
        ConfigError: the settings do not fit together.
        DataError: the splits are missing or not those of the data; there is no old model.
        LeakError: a test review is in the training file.
        ProviderError: the teacher failed while it was asked, and its answers are kept; or the new provider refused a
            request or cannot be reached.
    """
    settings = new_settings(options.provider, options.overrides, config, root)
    settings.folder.mkdir(parents=True, exist_ok=True)
    with using(settings.folder, wait=True):  # of two equal commands, the second finds the job of the first
        return _rebase(options, settings, config, root, progress)


def _rebase(
    options: RebaseOptions, settings: NewSettings, config: Config, root: Path, progress: Progress
) -> RebaseReport:
    paths, teacher = ProjectPaths(root), options.teacher
    _refuse_unsplit(paths)
    refuse_stale(paths, config)
    old, splits = find_old(teacher.model if teacher else None, config, root), read_splits(paths.splits)
    old = with_budget(old, teacher.budget_usd) if teacher else old
    unlabelled = read_reviews_of(teacher, config, splits, paths) if teacher else None
    move = _measured(settings, config, root, old, splits, progress)
    rows, kept = pd.DataFrame(columns=["text", "label"]), None
    if teacher and unlabelled:
        taught = learn_from(old, move.measured, teacher, unlabelled, splits, root, progress=progress)
        rows, kept = taught.rows, taught.kept
    chat = write_chat(settings, paths.splits, rows, progress=progress)
    tags = {"rebase": options.provider, "old_model": old.asked.model, "teacher_answers": kept and kept.trained_on}
    new = train_and_evaluate(settings, chat, paths.splits, hostile=paths.injections, tags=tags, progress=progress)
    return _reported(move, new, kept, progress)


def _measured(
    settings: NewSettings, config: Config, root: Path, old: OldModel, splits: Splits, progress: Progress
) -> _Move:
    """Ask the old model about the test reviews first: it may end while the new one is trained."""
    progress.message(f"leaving {old.asked.model}, {old.title}")
    digest = _test_sha256(ProjectPaths(root))
    measured = measure_old(old, splits.test, test_sha256=digest, valid=splits.valid, root=root, progress=progress)
    if measured.why_not:
        progress.message(f"the old model does not answer ({measured.why_not})")
    return _Move(project=config, root=root, settings=settings, old=old, measured=measured, splits=splits)


def _refuse_unsplit(paths: ProjectPaths) -> None:
    if not paths.splits.manifest.exists():
        raise DataError(
            f"{paths.splits.manifest} is missing, so there are no test reviews to compare on: run `dvc repro split`; "
            "without any labelled reviews, --teacher MODEL --reviews FILE trains with the answers of the old model"
        )


def _test_sha256(paths: ProjectPaths) -> str:
    return str(read_json(paths.splits.manifest)["splits"]["test"]["sha256"])


def _reported(move: _Move, new: NewModel, kept: KeptAnswers | None, progress: Progress) -> RebaseReport:
    """The report, written to reports/rebase/ and to the run of the evaluation."""
    report = _report(move, new, kept, progress)
    folder = report_folder(move.root)
    written = [write_report(report, move.root), folder / MARKDOWN]
    write_text(to_markdown(report), folder / MARKDOWN)
    run = stored_run(move.project.tracking, new.run_id)
    for path in written:
        run.artifact(path)
    run.tags({"parity": report.verdict, **{f"gate.{_tag(gate.name)}": gate.outcome for gate in report.gates}})
    if report.agreement is not None:
        run.metrics({"agreement": report.agreement.value})
    return report


def _report(move: _Move, new: NewModel, kept: KeptAnswers | None, progress: Progress) -> RebaseReport:
    candidate, old = _candidate(move, new), move.measured.arm
    arm, asked, config = candidate.measured, candidate.asked, move.project
    labels = tuple(config.data.labels)
    gates = parity_gates(candidate, move.old, move.measured, config, move.root, progress=progress)
    return RebaseReport(
        data=config.data.name,
        n=arm.metrics.n,
        test_sha256=candidate.test_sha256,
        support=dict(zip(arm.per_label["label"], arm.per_label["support"].astype(int), strict=True)),
        old=side(move.old.asked, old, title=move.old.title, seen=move.measured.seen) if old else None,
        new=side(asked, arm, title="the new model", seen="asked"),
        test=paired_test(arm, old, labels, resamples=config.evaluation.resamples) if old else None,
        agreement=agreement(arm, old) if old else None,
        gates=gates,
        verdict="failed" if any(gate.outcome == "failed" for gate in gates) else "passed",
        labelled=len(move.splits.train),
        training_sha256=new.record.training_sha256,
        job_id=new.record.job_id,
        run_id=new.run_id,
        kept=kept,
        notes=tuple(_notes(move, new, kept)),
    )


def _candidate(move: _Move, new: NewModel) -> Candidate:
    """The new model as `reviewtune promote` would see it."""
    asked = Asked(arm=FINETUNED, kind="finetuned", model=new.record.model, config=move.settings.config, pool=None)
    training = {"job_id": new.record.job_id, "training_sha256": new.record.training_sha256, "run_id": new.training_run}
    return Candidate(
        asked=asked,
        measured=as_arm(new.evaluation),
        run=run_or_none(move.project.tracking, new.run_id),
        training=training,
        train=move.splits.train,
        valid=move.splits.valid,
        test=move.splits.test,
        manifest=read_json(move.paths.splits.manifest),
        root=move.root,
    )


def _notes(move: _Move, new: NewModel, kept: KeptAnswers | None) -> list[str]:
    old, notes = move.old, []
    if move.measured.why_not:
        notes.append(f"the old model does not answer: {move.measured.why_not}")
    if old.asked.kind != FINETUNED:
        notes.append(f"the old model is arm {old.asked.arm}, which no job trained")
    elif not old.training_sha256:
        notes.append(f"it is not known what {old.asked.model} was trained with: it may know test reviews")
    elif kept is None and old.training_sha256 != new.record.training_sha256:
        notes.append("the training reviews have changed since the old model was trained")
    if old.test_sha256 and old.test_sha256 != new.record.test_sha256:
        notes.append("the old model was accepted on another test split: it may know reviews of this one")
    return notes


def _tag(name: str) -> str:
    return name.replace(" ", "_")
