"""From a model's answer to a classification: its label, its calibrated confidence, and whether that is enough."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from reviewtune.analyzer.classification import Classification
from reviewtune.analyzer.served_model import Calibration, ServedModel
from reviewtune.data.prompts import Prompt
from reviewtune.evaluation.label_scoring.answer_scores import (
    CONFIDENCE_DIGITS,
    label_row,
    normalised,
    without_prior,
)
from reviewtune.evaluation.subject import why_unusable

if TYPE_CHECKING:
    from reviewtune.providers.completion import Answer


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What a model's labels and confidences are worth.

    Args:
        model: the model's name.
        version: of the served model; None: it is not a served model.
        calibration: of its confidences; None: they say nothing.
        threshold: calibrated confidence from which on an answer is sure; None: none is.
    """

    model: str
    version: str | None = None
    calibration: Calibration | None = None
    threshold: float | None = None

    @classmethod
    def of_served(cls, served: ServedModel, version: str | None) -> Self:
        return cls(model=served.model, version=version, calibration=served.calibration, threshold=served.threshold)

    def labelled(self, label: str, confidence: float | None) -> Classification:
        """The classification with this label; `confidence` is the model's own, in [0, 1], None without one."""
        known = None
        if confidence is not None and self.calibration is not None:
            known = self.calibration.of(round(confidence, CONFIDENCE_DIGITS))  # as they were when it was fitted
        sure = known is not None and self.threshold is not None and known >= self.threshold
        return Classification(label, known, sure, self.model, self.version)

    def unlabelled(self, why: str) -> Classification:
        return Classification(None, model=self.model, version=self.version, why=why)


@dataclass(frozen=True, kw_only=True)
class AnswerReader:
    """Reads the answers of one model as its evaluation did.

    Args:
        prompt: that the model was asked with.
        verdicts: what its labels are worth.
        prior: log of each label's factor, estimated on other reviews, with which the answers are corrected;
            None: the label that the model answered counts.
    """

    prompt: Prompt
    verdicts: Verdicts
    prior: Mapping[str, float] | None = None

    def read(self, answer: "Answer") -> Classification:
        label = self.prompt.parse(answer.text)
        if label is None:
            return self.verdicts.unlabelled(why_unusable(answer))
        scores = self._scores(answer)
        if scores is None:
            return self.verdicts.labelled(label, None)
        if self.prior is not None:
            label = max(scores, key=lambda name: scores[name])  # the first of equal ones
        return self.verdicts.labelled(label, scores[label])

    def _scores(self, answer: "Answer") -> dict[str, float] | None:
        """The probability of each label, in [0, 1]; None if the answer has no log-probabilities."""
        labels = list(self.prompt.labels)
        row = label_row(answer.logprobs, self.prompt.readings(answer.text))
        if not row:
            return None
        row = normalised(row)
        if self.prior is not None:
            row = without_prior(row, [self.prior[label] for label in labels])
        return None if any(map(math.isnan, row)) else dict(zip(labels, map(math.exp, row), strict=True))
