"""Any labelled CSV file as a test set: `reviewtune evaluate --model MODEL --ground-truth FILE`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from reviewtune.core.config import Config, DataConfig
from reviewtune.core.progress import SILENT, Progress
from reviewtune.core.project import ProjectPaths
from reviewtune.data.faults import Fault
from reviewtune.data.leakage import refuse_leak, seen_rows
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import CsvRow, normalise, read_rows, sha256
from reviewtune.errors import DataError
from reviewtune.evaluation.evaluate import evaluate_model
from reviewtune.evaluation.results import Evaluation
from reviewtune.evaluation.subject import ModelSubject, zero_shot_arm
from reviewtune.finetuning.model_record import ModelRecord, read_record, refuse_changed, texts_of
from reviewtune.providers.model_names import is_finetuned

TEXT_COLUMNS = ("text", "review_text", "review")
LABEL_COLUMNS = ("label", "manual_label", "category")
TAKEN = ("review_id", "label", "predicted", "correct", "answer", "error", "confidence")  # columns of predictions.csv
SHOWN = 5
ADVICE = "use --leave-out-seen to score the other reviews only"


class GroundTruth(NamedTuple):
    """A labelled file as a test set.

    Args:
        reviews: columns review_id, text, label, and those of `data.slices`.
        data: the configuration's section, with the slices that the file has.
        sha256: SHA-256 of the file.
        left_out: ids of the file's reviews that are not in `reviews`, because the model has seen them.
    """

    reviews: pd.DataFrame
    data: DataConfig
    sha256: str
    left_out: tuple[str, ...] = ()


class _Columns(NamedTuple):
    """The file's columns by their meaning; `id` None: reviews are named after their lines."""

    text: str
    label: str
    id: str | None
    slices: tuple[str, ...]


def read_ground_truth(path: Path, data: DataConfig, by: Sequence[str] = ()) -> GroundTruth:
    """Read labelled reviews.

    Args:
        path: a CSV file; its columns are named as in conf/data, or text, review_text, label, manual_label, ...
        data: the label list, the column names and the slices.
        by: further columns whose values are scored separately.

    Raises:
        DataError: as `read_rows`; or a column is missing, a review is empty, or a label is not in the list.
    """
    rows = read_rows(path, [])
    columns = _columns(path, list(rows[0].cells), data, by)
    _refuse_faults(path, rows, columns, data)
    return GroundTruth(_reviews(rows, columns), data.model_copy(update={"slices": columns.slices}), sha256(path))


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
    record = _record(model, project)
    seen = seen_rows(truth.reviews, _known(record, config, project), similarity=config.split.similarity)
    rows = sorted({row for positions in seen.values() for row in positions})
    if len(rows) == len(truth.reviews):
        raise DataError(f"the model has seen every review of the file ({len(rows)}); evaluate it on other reviews")
    rest = truth.reviews.drop(index=truth.reviews.index[rows]).reset_index(drop=True)
    return truth._replace(reviews=rest, left_out=tuple(truth.reviews["review_id"].iloc[rows]))


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
    record = _record(model, project)
    known = _known(record, config, project)
    refuse_leak(truth.reviews, known, similarity=config.split.similarity, advice=ADVICE)
    subject = _subject(model or (record.model if record else ""), config, truth)
    result = evaluate_model(subject, truth.reviews, truth.data, test_sha256=truth.sha256, progress=progress)
    return result.with_extras(left_out_seen=len(truth.left_out) or None)


def training_is_unknown(model: str | None, project: Path) -> bool:
    """True for a fine-tuned model without a record in this project: a leak cannot be ruled out."""
    return model is not None and is_finetuned(model) and _record(model, project) is None


def _known(record: ModelRecord | None, config: Config, project: Path) -> dict[str, list[str]]:
    """The reviews of the chat files that the model was trained with, by the file's name; none without a record."""
    if record is None:
        return {}
    chat, prompt = ProjectPaths(project).chat, Prompt.of(config)
    refuse_changed(record, prompt, chat.folder)
    return {file.name: texts_of(file, prompt.settings) for file in chat.both}


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
    raise DataError(f"{path}: no column {' or '.join(dict.fromkeys(wanted))}; it has {', '.join(names)}")


def _reviews(rows: Sequence[CsvRow], columns: _Columns) -> pd.DataFrame:
    records = [
        {
            **{name: row.cells[name] for name in columns.slices},
            "review_id": row.cells[columns.id] if columns.id else f"line-{row.line}",
            "text": normalise(row.cells[columns.text]),
            "label": row.cells[columns.label].strip(),
        }
        for row in rows
    ]
    return pd.DataFrame(records, columns=["review_id", "text", "label", *columns.slices], dtype=str)


def _refuse_faults(path: Path, rows: Sequence[CsvRow], columns: _Columns, data: DataConfig) -> None:
    faults = [fault for row in rows if (fault := _fault(row, columns, data))]
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise DataError(f"{path} {'; '.join(map(str, faults[:SHOWN]))}{more}")


def _fault(row: CsvRow, columns: _Columns, data: DataConfig) -> Fault | None:
    if not normalise(row.cells[columns.text]):
        return Fault(row.line, "the review is empty")
    if (label := row.cells[columns.label].strip()) not in data.labels:
        return Fault(row.line, f"label '{label}' is not one of {', '.join(data.labels)}")
    return None
