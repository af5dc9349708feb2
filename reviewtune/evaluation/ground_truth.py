"""Any labelled CSV as a test set: `reviewtune evaluate --model MODEL --ground-truth FILE`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from reviewtune.core.config import Config, DataConfig, PromptArmConfig
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import CsvRow, normalise, read_rows, sha256
from reviewtune.errors import ConfigError, DataError
from reviewtune.evaluation.evaluate import evaluate_model
from reviewtune.evaluation.results import Evaluation
from reviewtune.evaluation.subject import Subject
from reviewtune.finetuning.model_record import ModelRecord, read_record, refuse_unfit

TEXT_COLUMNS = ("text", "review_text", "review")
LABEL_COLUMNS = ("label", "manual_label", "category")
TAKEN = ("review_id", "label", "predicted", "correct", "answer", "error", "confidence")  # columns of predictions.csv
SHOWN = 5


class GroundTruth(NamedTuple):
    reviews: pd.DataFrame  # review_id, text, label and the slice columns that the file has
    data: DataConfig  # the configuration's, with those slices
    sha256: str  # of the file


def read_ground_truth(path: Path, data: DataConfig, by: Sequence[str] = ()) -> GroundTruth:
    """Labelled reviews; columns are named as in conf/data, or as other tools do (text, review_text; label, ...).

    `by` are further columns whose values are scored apart.

    Raises:
        DataError: as `read_rows`; no column for text or label, or none of `by`; an empty review; a label that is not
            in the list.
    """
    rows = read_rows(path, [])
    found = list(rows[0].cells)
    text, label = (
        _column(path, found, names)
        for names in ((data.columns.text, *TEXT_COLUMNS), (data.columns.label, *LABEL_COLUMNS))
    )
    if faults := [fault for row in rows if (fault := _fault(row, text, label, data))]:
        raise DataError(
            f"{path} {'; '.join(faults[:SHOWN])}{f'; and {len(faults) - SHOWN} more' * (len(faults) > SHOWN)}"
        )
    identity = next((name for name in (data.columns.id, "review_id", "id") if name in found), None)
    slices = tuple(dict.fromkeys([*(name for name in data.slices if name in found), *by]))
    fit = [name for name in found if name not in (text, label, *TAKEN)]
    if unfit := [name for name in by if name not in fit]:
        able = ", ".join(fit) or "none"
        raise DataError(f"{path}: reviews cannot be sliced by '{unfit[0]}'; columns that they can: {able}")
    records = [
        (
            row.cells[identity] if identity else f"line-{row.line}",
            normalise(row.cells[text]),
            row.cells[label].strip(),
            *(row.cells[name] for name in slices),
        )
        for row in rows
    ]
    table = pd.DataFrame(records, columns=["review_id", "text", "label", *slices], dtype=str)
    return GroundTruth(table, data.model_copy(update={"slices": slices}), sha256(path))


def evaluate_file(model: str | None, truth: GroundTruth, config: Config, project: Path) -> Evaluation:
    """A model on a file: the fine-tuned model (also None: the last one) with the prompt it was trained with, any other
    with the zero-shot arm's, which names the labels.

    Raises:
        DataError: no fine-tuned model yet.
        LeakError: the file holds reviews that the model was trained with, or near-duplicates.
        ProviderError: the model could not be asked.
    """
    record = _record(model, project)
    if record is not None:
        prompt, chat = Prompt.of(config), project / "data" / "chat"
        refuse_unfit(record, prompt, chat, truth.reviews, similarity=config.split.similarity)
    subject = _subject(model or (record.model if record else ""), config, truth, project)
    asked = (config.prices, config.evaluation)
    return evaluate_model(subject, truth.reviews, truth.data, *asked, test_sha256=truth.sha256)


def training_is_unknown(model: str | None, project: Path) -> bool:
    """True for a fine-tuned model of which this project has no record: a leak can't be ruled out."""
    return model is not None and model.startswith("ft:") and _record(model, project) is None


def _record(model: str | None, project: Path) -> ModelRecord | None:
    """The record of this model, if it is the one that the pipeline trained."""
    path = project / "models" / "finetuned.json"
    if model is None:
        return read_record(path)
    found = read_record(path) if path.exists() else None
    names = {found.model, *(point["model"] for point in found.checkpoints)} if found else set()
    return found if model in names else None


def _subject(model: str, config: Config, truth: GroundTruth, project: Path) -> Subject:
    if model.startswith("ft:"):
        return Subject.of_finetuned(model, config)
    for name, arm in config.arms.items():
        if isinstance(arm, PromptArmConfig) and arm.shots == 0 and not arm.reasoning:
            return replace(Subject.of_arm(name, arm, config.data.labels, truth.reviews.iloc[:0]), model=model)
    raise ConfigError("arms: no prompt arm without examples, whose prompt the base model needs; add conf/arm/zero_shot")


def _column(path: Path, found: Sequence[str], names: Sequence[str]) -> str:
    for name in names:
        if name in found:
            return name
    raise DataError(f"{path}: no column {' or '.join(dict.fromkeys(names))}; it has {', '.join(found)}")


def _fault(row: CsvRow, text: str, label: str, data: DataConfig) -> str | None:
    if not normalise(row.cells[text]):
        return f"line {row.line}: the review is empty"
    if (name := row.cells[label].strip()) not in data.labels:
        return f"line {row.line}: label '{name}' is none of {', '.join(data.labels)}"
    return None
