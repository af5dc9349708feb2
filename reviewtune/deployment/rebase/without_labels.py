"""Move to another provider without one labelled review: the old model's answers are all that is left.

The new model is trained on a part of them and asked about the others. That says how often the two agree, not who is
right: the report says so, and nothing is judged.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from reviewtune.core.atomic_files import write_text
from reviewtune.core.config.config import Config
from reviewtune.core.folders import using
from reviewtune.core.project import ProjectPaths, SplitFiles
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.reviews import COLUMNS
from reviewtune.data.splits import Splits
from reviewtune.deployment.rebase.agreement_file import TABLE, AgreementReport, LabelAgreement, write_agreement
from reviewtune.deployment.rebase.asking import Asked
from reviewtune.deployment.rebase.held_out import held_out_sides, to_label, typed_rows, write_held_out
from reviewtune.deployment.rebase.new_settings import NewSettings, new_settings
from reviewtune.deployment.rebase.old_model import Measured, OldModel, find_old
from reviewtune.deployment.rebase.parity_file import report_folder
from reviewtune.deployment.rebase.teacher import (
    TeacherOptions,
    ask_teacher,
    describe_kept,
    read_reviews_of,
    with_budget,
)
from reviewtune.deployment.rebase.training import NewModel, train_and_evaluate, write_chat
from reviewtune.deployment.rebase.unlabelled import Unlabelled
from reviewtune.deployment.rebase.weights import Weighed, weigh
from reviewtune.errors import ConfigError
from reviewtune.evaluation.metrics.significance import proportion
from reviewtune.tracking.queries import stored_run

NO_LABELS = Splits(*(pd.DataFrame(columns=list(COLUMNS), dtype=str) for _ in Splits._fields))
NO_ANSWERS = pd.DataFrame(columns=["text", "label"], dtype=str)


def labels_are_lost(config: Config, root: Path) -> bool:
    """Whether the project has no labelled review: neither the raw data nor anything that was made of them."""
    paths = ProjectPaths(root)
    return not any(path.exists() for path in (root / config.data.path, paths.labeled, paths.splits.manifest))


def rebase_without_labels(
    provider: str,
    overrides: Sequence[str],
    teacher: TeacherOptions,
    config: Config,
    root: Path,
    *,
    progress: Progress = SILENT,
) -> AgreementReport:
    """Train a model on the old model's answers, and compare the two on held-out ones.

    Args:
        provider: the new provider, a file of conf/provider.
        overrides: settings of the new model.
        teacher: the old model and the reviews.
        config: the project's params.yaml.
        root: the project's folder.
        progress: receives messages and progress bars.

    Raises:
        ConfigError: the settings do not fit together, or the old model is a baseline.
        DataError: no review is left to ask about, or there are too few answers.
        ProviderError: the old model failed while it was asked, and its answers are kept; or the new provider refused a
            request or cannot be reached.
    """
    settings = _without_slices(new_settings(provider, overrides, config, root))
    settings.folder.mkdir(parents=True, exist_ok=True)
    with using(settings.folder, wait=True):  # of two equal commands, the second finds the job of the first
        return _move(settings, teacher, config, root, progress)


def _move(
    settings: NewSettings, teacher: TeacherOptions, config: Config, root: Path, progress: Progress
) -> AgreementReport:
    paths = ProjectPaths(root)
    progress.message(f"{config.data.path} is missing: no labelled review, so only the agreement can be measured")
    typed_rows(report_folder(root) / TABLE)  # refuses a damaged file before anything is asked
    old = with_budget(find_old(teacher.model, config, root), teacher.budget_usd)
    _refuse_other_labels(old, config)
    unlabelled = read_reviews_of(teacher, config, NO_LABELS, paths)
    asked, file = ask_teacher(old, Measured(None), teacher, unlabelled, NO_LABELS, root, progress=progress)
    sides = held_out_sides(asked.rows, config.split)
    weighed = weigh(asked.rows[sides == "train"], None)
    files = SplitFiles(settings.folder / "answers")
    taught = sides.where((sides != "train") | asked.rows["text"].isin(weighed.rows["text"]), "")
    held_out = write_held_out(asked.rows, taught, config, file.path, files.folder).test
    chat = write_chat(settings, files, NO_ANSWERS, progress=progress)
    tags = {"rebase": "without labels", "old_model": old.asked.model, "labels_of": f"teacher {old.asked.model}"}
    new = train_and_evaluate(settings, chat, files, hostile=paths.injections, tags=tags, progress=progress)
    report = _report(settings, old, new, teacher, unlabelled, asked, weighed, file.path.relative_to(root))
    _write(report, new, held_out, config, root)
    return report


def _without_slices(settings: NewSettings) -> NewSettings:
    """The file of reviews has a text only, no columns to score separately."""
    data = settings.config.data.model_copy(update={"slices": ()})
    return replace(settings, config=settings.config.model_copy(update={"data": data}))


def _refuse_other_labels(old: OldModel, config: Config) -> None:
    if list(old.asked.config.data.labels) != list(config.data.labels):
        raise ConfigError(f"{old.asked.model} was trained with other labels than those of params.yaml")


def _report(
    settings: NewSettings,
    old: OldModel,
    new: NewModel,
    teacher: TeacherOptions,
    unlabelled: Unlabelled,
    asked: Asked,
    weighed: Weighed,
    file: Path,
) -> AgreementReport:
    answers, metrics, run = new.evaluation.predictions, new.evaluation.metrics, new.evaluation.run
    same, provider = answers["label"] == answers["predicted"], settings.config.provider
    counts = answers["label"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    return AgreementReport(
        data=settings.config.data.name,
        old=old.asked.model,
        new=new.record.model,
        provider=provider.kind,
        base_model=provider.base_model,
        n=len(answers),
        agreement=proportion(int(same.sum()), len(answers)).rounded(),
        labels=tuple(
            LabelAgreement(
                label=str(label),
                reviews=int(n),
                same=proportion(int(same[answers["label"] == label].sum()), int(n)).rounded(),
            )
            for label, n in counts.items()
        ),
        unusable=metrics.invalid,
        cost_per_1k=metrics.cost_per_1k,
        latency_p95=run.latency_p95,
        reviews_per_second=run.reviews_per_second,
        training_sha256=new.record.training_sha256,
        job_id=new.record.job_id,
        run_id=new.run_id,
        kept=describe_kept(teacher, unlabelled, asked, weighed, file, None),
    )


def _write(report: AgreementReport, new: NewModel, held_out: pd.DataFrame, config: Config, root: Path) -> None:
    """The report, also on the run of the evaluation, and the held-out reviews for a person to label."""
    run = stored_run(config.tracking, report.run_id)
    for path in write_agreement(report, root):
        run.artifact(path)
    run.metrics({"agreement": report.agreement.value})
    answers = new.evaluation.predictions.rename(columns={"label": "old_model", "predicted": "new_model"})
    table = held_out[["review_id", "text"]].merge(answers[["review_id", "old_model", "new_model"]], on="review_id")
    typed = typed_rows(report_folder(root) / TABLE)  # people may have typed while the model was trained
    write_text(to_label(table, typed).to_csv(index=False, lineterminator="\n"), report_folder(root) / TABLE)
