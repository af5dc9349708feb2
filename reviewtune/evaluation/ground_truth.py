"""Any labelled CSV file as a test set: `reviewtune evaluate --model MODEL --ground-truth FILE`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from reviewtune.core.config import ColumnsConfig, Config, DataConfig
from reviewtune.core.normalisation import normalise
from reviewtune.core.progress import SILENT, Progress
from reviewtune.core.project import ProjectPaths
from reviewtune.data.faults import refuse_faults
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import TEXT_COLUMNS, labels_of, review_id, row_faults, sha256
from reviewtune.data.tables import Row, read_table
from reviewtune.errors import DataError
from reviewtune.evaluation.evaluate import evaluate_model
from reviewtune.evaluation.results import Evaluation
from reviewtune.evaluation.subject import ModelSubject, zero_shot_arm
from reviewtune.finetuning.model_record import ModelRecord, read_record, refuse_unfit
from reviewtune.providers.model_names import is_finetuned

LABEL_COLUMNS = ("label", "manual_label", "category")
TAKEN = ("review_id", "label", "predicted", "correct", "answer", "error", "confidence")  # columns of predictions.csv


class GroundTruth(NamedTuple):
    """A labelled file as a test set.

    Args:
        reviews: columns review_id, text, label, and those of `data.slices`.
        data: the configuration's section, with the slices that the file has.
        sha256: SHA-256 of the file.
        skipped: what to tell the user about empty rows; empty if there are none.
    """

    reviews: pd.DataFrame
    data: DataConfig
    sha256: str
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
    table = read_table(path)
    columns = _columns(path, table.columns, data, by)
    known = data.model_copy(update={"slices": columns.slices, "columns": columns.config})
    refuse_faults(path, row_faults(table, known))
    reviews, sliced = _reviews(table.rows, columns), data.model_copy(update={"slices": columns.slices})
    return GroundTruth(reviews, sliced, sha256(path), table.skipped)


def evaluate_file(
    model: str | None, truth: GroundTruth, config: Config, project: Path, *, progress: Progress = SILENT
) -> Evaluation:
    """Evaluate a model on a labelled file.

    A fine-tuned model is asked with the prompt it was trained with, any other with the zero-shot arm's prompt, which
    lists the labels.

    Args:
        model: the model's name; None: the model of the last `dvc repro`.
        truth: the test set.
        config: the configuration.
        project: the project's folder.
        progress: receives messages and progress bars.

    Raises:
        DataError: there is no fine-tuned model yet.
        LeakError: the file holds reviews that the model was trained with, or near-duplicates of them.
        ProviderError: the model could not be asked.
    """
    record, paths = _record(model, project), ProjectPaths(project)
    if record is not None:
        refuse_unfit(record, Prompt.of(config), paths.chat.folder, truth.reviews, similarity=config.split.similarity)
    subject = _subject(model or (record.model if record else ""), config, truth)
    return evaluate_model(subject, truth.reviews, truth.data, test_sha256=truth.sha256, progress=progress)


def training_is_unknown(model: str | None, project: Path) -> bool:
    """True for a fine-tuned model without a record in this project: a leak cannot be ruled out."""
    return model is not None and is_finetuned(model) and _record(model, project) is None


def _record(model: str | None, project: Path) -> ModelRecord | None:
    """The record of this model if the pipeline trained it; None otherwise."""
    path = ProjectPaths(project).model_record
    if model is None:
        return read_record(path)
    record = read_record(path) if path.exists() else None
    names = {record.model, *(point.model for point in record.checkpoints)} if record else set()
    return record if model in names else None


def _subject(model: str, config: Config, truth: GroundTruth) -> ModelSubject:
    if is_finetuned(model):
        return ModelSubject.of_finetuned(model, config)
    name, arm = zero_shot_arm(config)
    return replace(ModelSubject.of_arm(name, arm, config, truth.reviews.iloc[:0]), model=model)


def _columns(path: Path, names: Sequence[str], data: DataConfig, by: Sequence[str]) -> _Columns:
    text = _first(path, names, (data.columns.text, *TEXT_COLUMNS))
    label = _first(path, names, (data.columns.label, *LABEL_COLUMNS))
    identity = next((name for name in (data.columns.id, "review_id", "id") if name in names), None)
    possible = [name for name in names if name not in (text, label, *TAKEN)]
    for name in by:
        if name not in possible:
            raise DataError(
                f"{path}: reviews cannot be sliced by '{name}'; possible columns: {', '.join(possible) or 'none'}"
            )
    slices = dict.fromkeys([*(name for name in data.slices if name in names), *by])
    return _Columns(text=text, label=label, id=identity, slices=tuple(slices))


def _first(path: Path, names: Sequence[str], wanted: Sequence[str]) -> str:
    for name in wanted:
        if name in names:
            return name
    present = f"it has {', '.join(names)}" if names else "it is empty"
    raise DataError(f"{path}: no column {' or '.join(dict.fromkeys(wanted))}; {present}")


def _reviews(rows: Sequence[Row], columns: _Columns) -> pd.DataFrame:
    records = [
        {
            **{name: normalise(row.cells[name]) for name in columns.slices},
            "review_id": review_id(row, columns.config),
            "text": normalise(row.cells[columns.text]),
            "label": labels_of(row, columns.config)[0],
        }
        for row in rows
    ]
    return pd.DataFrame(records, columns=["review_id", "text", "label", *columns.slices], dtype=str)
