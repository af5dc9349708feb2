"""What promotion stores for `reviewtune monitor`: how the model answered the test reviews, and hashed texts.

reference.json holds no text. The hashed texts (text_features.py) are in files next to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic import Field

from reviewtune.analyzer.served_model import ServedModel
from reviewtune.core.result_file import ResultFile, read_result, write_result
from reviewtune.data.language_detection import detect
from reviewtune.deployment.candidate import Candidate
from reviewtune.deployment.text_features import TextFeatures, read_features, text_features, write_features
from reviewtune.errors import DataError
from reviewtune.evaluation.label_scoring.answer_scores import CONFIDENCE_DIGITS
from reviewtune.evaluation.metrics.classification import INVALID

REFERENCE = "reference.json"
MOST = 5_000
"""Training and validation reviews whose hashed texts are kept: a sample if there are more."""
SEED = 0
REMEDY = 'promote the model again: `reviewtune promote --force --reason "reference for monitor"`'


class Reference(ResultFile):
    """The model's answers to the test reviews, in the order of the test split; every list has one value per review."""

    test_sha256: str = Field(description="SHA-256 of the test split")
    labels: tuple[str, ...] = Field(description="the true labels")
    predicted: tuple[str | None, ...] = Field(description="the model's labels; null: no usable answer")
    confidence: tuple[float, ...] | None = Field(
        description="calibrated confidence of each label, in [0, 1], 0 without a usable answer; null: not calibrated"
    )
    lengths: tuple[int, ...] = Field(description="number of characters")
    languages: tuple[str, ...] = Field(description="detected language, ISO 639-1, or unsure")
    training: int = Field(
        description="hashed texts of training and validation reviews, which come first in the files of features; those "
        "of the test reviews follow"
    )


@dataclass(frozen=True)
class StoredReference:
    """A reference with its hashed texts."""

    facts: Reference
    features: TextFeatures

    @property
    def test(self) -> TextFeatures:
        return self.features.rows(range(self.facts.training, len(self.features)))

    @property
    def training(self) -> TextFeatures:
        """Of training and validation reviews."""
        return self.features.rows(range(self.facts.training))


def write_reference(served: ServedModel, candidate: Candidate, folder: Path) -> None:
    """Write the reference of a candidate into the folder of its served model."""
    predictions = candidate.measured.predictions
    test = candidate.test.set_index("review_id").loc[predictions["review_id"]]
    known = pd.concat([candidate.train["text"], candidate.valid["text"]])
    kept = known if len(known) <= MOST else known.sample(MOST, random_state=SEED)
    confidence = predictions["confidence"].tolist() if "confidence" in predictions else None
    write_stored(
        make_reference(
            test["text"].tolist(),
            predictions["label"].tolist(),
            [None if label == INVALID else label for label in predictions["predicted"]],
            _calibrated(served, confidence),
            training=len(kept),
            test_sha256=candidate.test_sha256,
        ),
        text_features([*kept, *test["text"]]),
        folder,
    )


def make_reference(
    texts: Sequence[str],
    labels: Sequence[str],
    predicted: Sequence[str | None],
    confidence: Sequence[float] | None,
    *,
    training: int,
    test_sha256: str = "",
) -> Reference:
    """The reference of these test reviews; arguments as the fields of `Reference`."""
    scores = None
    if confidence is not None:
        scores = tuple(score if label else 0.0 for score, label in zip(confidence, predicted, strict=True))
    return Reference(
        test_sha256=test_sha256,
        labels=tuple(labels),
        predicted=tuple(predicted),
        confidence=scores,
        lengths=tuple(map(len, texts)),
        languages=tuple(each.language for each in detect(texts)),
        training=training,
    )


def write_stored(reference: Reference, features: TextFeatures, folder: Path) -> None:
    """Write all files of a reference into an existing folder."""
    write_features(features, folder)
    write_result(reference, folder / REFERENCE)


def read_reference(folder: Path) -> StoredReference:
    """Read the reference of a served model.

    Raises:
        DataError: there is none, because the model was promoted by an earlier release, or it is damaged.
    """
    missing = f"this model was promoted before `monitor` existed; {REMEDY}"
    facts = read_result(folder / REFERENCE, Reference, if_missing=missing, if_damaged=REMEDY)
    try:
        features = read_features(folder)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: the hashed texts of the reference are missing or damaged; {REMEDY}") from error
    if len(features) != facts.training + len(facts.labels):
        raise DataError(f"{folder}: the hashed texts do not belong to {REFERENCE}; {REMEDY}")
    return StoredReference(facts, features)


def _calibrated(served: ServedModel, confidence: Sequence[float] | None) -> list[float] | None:
    if served.calibration is None or confidence is None:
        return None
    known = (None if value != value else round(float(value), CONFIDENCE_DIGITS) for value in confidence)  # NaN: none
    return [0.0 if value is None else served.calibration.of(value) for value in known]
