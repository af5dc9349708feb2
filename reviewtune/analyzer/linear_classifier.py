"""Classify reviews with the linear baseline, which is fitted when it is opened: 0.1 s for 1,000 reviews."""

import asyncio
from collections.abc import Sequence
from threading import Lock
from typing import Any

from reviewtune.analyzer.answer_reader import Verdicts
from reviewtune.analyzer.classifier import Note, Outcome, ignore
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.evaluation import linear_baseline


class LinearClassifier:
    """TF-IDF and logistic regression; needs no provider.

    Args:
        texts: the training reviews.
        answers: their labels.
        labels: all labels of the data set.
        seed: of the fit.
        verdicts: what its labels are worth.
    """

    def __init__(
        self,
        texts: Sequence[str],
        answers: Sequence[str],
        *,
        labels: tuple[str, ...],
        seed: int,
        verdicts: Verdicts,
    ) -> None:
        self._texts, self._answers, self._seed = list(texts), list(answers), seed
        self._labels, self._verdicts = labels, verdicts
        self._fitting = Lock()
        self._model: Any = None  # scikit-learn has no types

    @property
    def model(self) -> str:
        return self._verdicts.model

    @property
    def version(self) -> str | None:
        return self._verdicts.version

    @property
    def labels(self) -> tuple[str, ...]:
        return self._labels

    @property
    def is_calibrated(self) -> bool:
        return self._verdicts.calibration is not None

    def open(self) -> None:
        """Fit the model, once."""
        with self._fitting:
            if self._model is None:
                unfitted = linear_baseline.classifier(self._seed)
                self._model = linear_baseline.fit(unfitted, self._texts, self._answers)

    def classify(self, texts: Sequence[str], *, cache: bool = False, progress: Progress = SILENT) -> list[Outcome]:
        """Neither the cache nor the progress is used: it takes 1 ms per review."""
        if not texts:
            return []
        self.open()
        shares = self._model.predict_proba(list(texts))
        answers = self._model.classes_[shares.argmax(axis=1)]
        pairs = zip(answers, shares.max(axis=1), strict=True)
        return [self._verdicts.labelled(str(label), float(share)) for label, share in pairs]

    async def aclassify(self, texts: Sequence[str], note: Note = ignore) -> list[Outcome]:
        outcomes = await asyncio.to_thread(self.classify, texts)
        for index, outcome in enumerate(outcomes):
            note(index, outcome)
        return outcomes
