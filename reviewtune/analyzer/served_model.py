"""The model that an application uses, as a folder that can be copied: served_model.json and the files it needs.

Promotion writes the folder, the registry keeps it, and `ReviewAnalyzer` reads it. It holds no key and no review, except
for an arm that needs the training reviews to answer (linear, or few-shot examples chosen for each review). For
`reviewtune monitor` it holds hashed words of the labelled reviews (deployment/text_features.py).
"""

from bisect import bisect_left
from pathlib import Path
from typing import Literal

from pydantic import Field

from reviewtune.core.config.config import Config
from reviewtune.core.result_file import ResultFile, ResultPart, read_result, write_result

SERVED_MODEL = "served_model.json"
TRAINING_REVIEWS = "training_reviews.csv"
"""Columns text and label: what the linear arm is fitted on, or the pool of few-shot examples."""
ADAPTER = "adapter"
"""Folder of the local provider's weights; only after `promote --with-weights`."""


class Calibration(ResultPart):
    """A non-decreasing map from a model's confidence to the share of correct answers, linear between its points."""

    confidence: tuple[float, ...] = Field(description="confidences of the points, ascending, in [0, 1]")
    accuracy: tuple[float, ...] = Field(description="calibrated confidence at each point, in [0, 1]")

    def of(self, confidence: float) -> float:
        """The calibrated confidence, in [0, 1]; constant beyond the first and the last point."""
        position = bisect_left(self.confidence, confidence)
        if position == 0:
            return self.accuracy[0]
        if position == len(self.confidence):
            return self.accuracy[-1]
        left, right = self.confidence[position - 1], self.confidence[position]
        share = (confidence - left) / (right - left)
        return self.accuracy[position - 1] + share * (self.accuracy[position] - self.accuracy[position - 1])


class Provenance(ResultPart):
    """Where the model comes from."""

    run_id: str | None = Field(description="MLflow run of its evaluation")
    training_run_id: str | None = Field(description="MLflow run that trained it; null: it was not fine-tuned")
    job_id: str | None = Field(description="fine-tuning job at the provider; null: it was not fine-tuned")
    git_revision: str | None = Field(description="git revision of the code and the configuration")
    data_sha256: str = Field(description="SHA-256 of the labelled reviews")
    training_sha256: str = Field(description="SHA-256 of the training file, or of the training split of a baseline")
    test_sha256: str = Field(description="SHA-256 of the test split it was accepted on")


class ServedModel(ResultFile):
    """A model and everything that is needed to ask it in the way in which it was evaluated."""

    name: str = Field(description="name in the model registry")
    arm: str = Field(description="the arm's name, such as finetuned or linear")
    kind: Literal["finetuned", "prompt", "linear"] = Field(description="what kind of arm it is")
    model: str = Field(description="the model's name at the provider, or what the baseline is made of")
    config: Config = Field(description="the configuration it was evaluated with")
    label_prior: dict[str, float] | None = Field(
        description="log of the factor of each label, estimated on the validation reviews, with which confidences "
        "are corrected; null: they are used as they are"
    )
    calibration: Calibration | None = Field(
        description="maps confidences to shares of correct answers, fitted on the validation reviews; null: the model "
        "returns no confidence, or there are too few validation reviews"
    )
    wanted_accuracy: float = Field(description="accuracy that the threshold was chosen for, in [0, 1]")
    threshold: float | None = Field(
        description="calibrated confidence from which on an answer is sure, chosen on the validation reviews; null: no "
        "confidence reaches the wanted accuracy"
    )
    provenance: Provenance = Field(description="where the model comes from")

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.config.data.labels)


def read_served_model(folder: Path) -> ServedModel:
    """Read the folder's served_model.json.

    Raises:
        DataError: there is none, or it is damaged or of another release.
    """
    return read_result(
        folder / SERVED_MODEL,
        ServedModel,
        if_missing="`reviewtune promote` registers a model, `reviewtune champion --out FOLDER` copies it",
        if_damaged="run `reviewtune champion --out FOLDER` to copy it again, or promote the model again",
    )


def write_served_model(model: ServedModel, folder: Path) -> None:
    """Write served_model.json into an existing folder."""
    write_result(model, folder / SERVED_MODEL)
