"""Any labelled CSV file as a test set: `reviewtune evaluate --model MODEL --ground-truth FILE`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from reviewtune.core.config.config import Config
from reviewtune.core.config.data import ColumnsConfig, DataConfig
from reviewtune.core.config.types import PIPELINE_COLUMNS
from reviewtune.core.normalisation import normalise
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.faults import refuse_faults
from reviewtune.data.leakage import refuse_leak, seen_rows
from reviewtune.data.personal_data import prepared
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import (
    TEXT_COLUMNS,
    labels_of,
    read_reviews,
    refuse_repeated_ids,
    review_id,
    row_faults,
    sha256,
)
from reviewtune.data.splits import alike
from reviewtune.data.tables import Row, read_table, refuse_stream
from reviewtune.errors import DataError
from reviewtune.evaluation.evaluate import evaluate_model
from reviewtune.evaluation.results import Evaluation
from reviewtune.evaluation.subject import ModelSubject, zero_shot_arm
from reviewtune.finetuning.job_notes import is_finetuned
from reviewtune.finetuning.model_record import RECORD, ModelRecord, fitting_record, refuse_changed, texts_of

LABEL_COLUMNS = ("label", "manual_label", "category")
ADVICE = "use --leave-out-seen to score the other reviews only"


class GroundTruth(NamedTuple):
    """A labelled file as a test set.

    Args:
        reviews: columns review_id, text, label, and those of `data.slices`.
        data: the configuration's section, with the slices that the file has.
        sha256: SHA-256 of the file.
        left_out: ids of the file's reviews that are not in `reviews`, because the model has seen them.
        skipped: what to tell the user about empty rows; empty if there are none.
    """

    reviews: pd.DataFrame
    data: DataConfig
    sha256: str
    left_out: tuple[str, ...] = ()
    skipped: str = ""


class _Columns(NamedTuple):
    """The file's columns by their meaning; `id` None: reviews are named after their lines."""

    text: str
    label: str
    id: str | None
    slices: tuple[str, ...]

    @property
    def config(self) -> ColumnsConfig:
        return ColumnsConfig(text=self.text, label=self.label, id=self.id, second_label=None)


def read_ground_truth(path: Path, data: DataConfig, by: Sequence[str] = ()) -> GroundTruth:
    """Read labelled reviews.

    Args:
        path: a CSV or .xlsx file; its columns are named as in conf/data, or text, review_text, label, manual_label, ...
        data: the label list, the column names and the slices.
        by: further columns whose values are scored separately.

    Raises:
        DataError: as `read_table`; or a column is missing, a review is empty or too long, or a label is not in the
            list.
    """
    refuse_stream(path)
    table = read_table(path)
    columns = _columns(path, table.columns, data, by)
    if columns.id not in (None, data.columns.id) and not _names_each(table.rows, columns.id):
        columns = columns._replace(id=None)  # a column that is called id may be that of an order
    known = data.model_copy(update={"slices": columns.slices, "columns": columns.config})
    refuse_faults(path, row_faults(table, known))
    reviews, sliced = _reviews(table.rows, columns, data), data.model_copy(update={"slices": columns.slices})
    refuse_repeated_ids(path, reviews)
    return GroundTruth(reviews, sliced, sha256(path), skipped=table.skipped)


def leave_out_seen(truth: GroundTruth, model: str | None, config: Config, project: Path) -> GroundTruth:
    """Without the reviews that the model was trained with, and without near-duplicates of them.

    Args:
        truth: the test set.
        model: the model's name; None: the model of the last `dvc repro`.
        config: the configuration.
        project: the project's folder.

    Raises:
        DataError: the model has seen every review of the file.
    """
    record = _record(model, config, project)
    seen = seen_rows(truth.reviews, _known(record, config, project), similarity=config.split.similarity)
    rows = sorted({row for positions in seen.values() for row in positions})
    if len(rows) == len(truth.reviews):
        raise DataError(f"the model has seen every review of the file ({len(rows)}); evaluate it on other reviews")
    rest = truth.reviews.drop(index=truth.reviews.index[rows]).reset_index(drop=True)
    return truth._replace(reviews=rest, left_out=tuple(truth.reviews["review_id"].iloc[rows]))


def evaluate_file(
    model: str | None,
    truth: GroundTruth,
    config: Config,
    project: Path,
    *,
    finetuned: bool = False,
    progress: Progress = SILENT,
) -> Evaluation:
    """Evaluate a model on a labelled file.

    A fine-tuned model is asked with the prompt it was trained with, any other with the zero-shot arm's prompt, which
    lists the labels.

    Args:
        model: the model's name; None: the model of the last `dvc repro`.
        truth: the test set.
        config: the configuration.
        project: the project's folder.
        finetuned: ask it as a fine-tuned one, although neither this project nor its name says that it is.
        progress: receives messages and progress bars.

    Raises:
        ConfigError: the model was trained with different data, labels or prompt than the configuration describes.
        DataError: there is no fine-tuned model yet.
        LeakError: the file holds reviews that the model was trained with, or near-duplicates of them.
        ProviderError: the model could not be asked.
    """
    record = _record(model, config, project)
    known = _known(record, config, project)
    refuse_leak(truth.reviews, known, similarity=config.split.similarity, advice=ADVICE)
    name = model or (record.model if record else "")
    finetuned = finetuned or record is not None or is_finetuned(name, project)
    if record is None:
        progress.message(how_asked(name, config, finetuned=finetuned))
    subject = _subject(name, config, truth, finetuned=finetuned)
    valid = _validation(ProjectPaths(project).splits.valid, truth, config) if subject.kind == "prompt" else None
    result = evaluate_model(
        subject, truth.reviews, truth.data, test_sha256=truth.sha256, valid=valid, progress=progress
    )
    return result.with_extras(left_out_seen=len(truth.left_out) or None)


def training_is_unknown(model: str | None, config: Config, project: Path, *, finetuned: bool = False) -> bool:
    """True for a fine-tuned model without a record in this project: a leak cannot be ruled out.

    Args:
        model: the model's name; None: the model of the last `dvc repro`.
        config: the configuration.
        project: the project's folder.
        finetuned: the user says that it is a fine-tuned one.
    """
    if model is None or _record(model, config, project) is not None:
        return False
    return finetuned or is_finetuned(model, project)


def _known(record: ModelRecord | None, config: Config, project: Path) -> dict[str, list[str]]:
    """The reviews of the chat files that the model was trained with, by the file's name; none without a record."""
    if record is None:
        return {}
    chat, prompt = ProjectPaths(project).chat, Prompt.of(config)
    refuse_changed(record, prompt, chat.folder)
    return {file.name: texts_of(file, prompt.settings) for file in chat.both}


def _record(model: str | None, config: Config, project: Path) -> ModelRecord | None:
    """The record of this model if the pipeline trained it; None otherwise."""
    return fitting_record(ProjectPaths(project).model_record, model, config)


def how_asked(model: str, config: Config, *, finetuned: bool) -> str:
    """Which prompt a model gets that is not the one of the last `dvc repro`."""
    how = (
        f"as a fine-tuned model, with prompt {config.prompt.name}" if finetuned else "as a base model, with the labels"
    )
    return f"{model} is not in models/{RECORD}: it is asked {how}"


def _subject(model: str, config: Config, truth: GroundTruth, *, finetuned: bool) -> ModelSubject:
    if finetuned:
        return ModelSubject.of_finetuned(model, config)
    name, arm = zero_shot_arm(config)
    return replace(ModelSubject.of_arm(name, arm, config, truth.reviews.iloc[:0]), model=model)


def _validation(path: Path, truth: GroundTruth, config: Config) -> pd.DataFrame | None:
    """The validation split without what is in the file too, to choose the label scoring on; None: there is none."""
    if not path.exists():
        return None
    valid = read_reviews(path)
    pairs = alike(valid["text"].tolist(), truth.reviews["text"].tolist(), config.split.similarity)
    kept = valid.drop(index=list({pair.left for pair in pairs}))
    return kept[kept["label"].isin(truth.data.labels)].reset_index(drop=True)


def _columns(path: Path, names: Sequence[str], data: DataConfig, by: Sequence[str]) -> _Columns:
    text = _first(path, names, (data.columns.text, *TEXT_COLUMNS))
    label = _first(path, names, (data.columns.label, *LABEL_COLUMNS))
    identity = next((name for name in (data.columns.id, "review_id", "id") if name in names), None)
    possible = [name for name in names if name not in (text, label, *PIPELINE_COLUMNS)]
    for name in by:
        if name not in possible:
            raise DataError(
                f"{path}: reviews cannot be sliced by '{name}'; possible columns: {', '.join(possible) or 'none'}"
            )
    slices = dict.fromkeys([*(name for name in data.slices if name in names), *by])
    return _Columns(text=text, label=label, id=identity, slices=tuple(slices))


def _names_each(rows: Sequence[Row], column: str) -> bool:
    """Whether the column has another value in every row."""
    ids = {normalise(row.cells[column]) for row in rows}
    return len(ids) == len(rows) and "" not in ids


def _first(path: Path, names: Sequence[str], wanted: Sequence[str]) -> str:
    for name in wanted:
        if name in names:
            return name
    present = f"it has {', '.join(names)}" if names else "it is empty"
    raise DataError(f"{path}: no column {' or '.join(dict.fromkeys(wanted))}; {present}")


def _reviews(rows: Sequence[Row], columns: _Columns, data: DataConfig) -> pd.DataFrame:
    """The reviews as a model gets them: masked if the reviews that it was trained with were."""
    records = [
        {
            **{name: normalise(row.cells[name]) for name in columns.slices},
            "review_id": review_id(row, columns.config),
            "text": prepared(row.cells[columns.text], data),
            "label": labels_of(row, columns.config)[0],
        }
        for row in rows
    ]
    return pd.DataFrame(records, columns=["review_id", "text", "label", *columns.slices], dtype=str)
