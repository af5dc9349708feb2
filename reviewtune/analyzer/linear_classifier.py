"""Classify reviews with the linear baseline, which is fitted when it is opened: 0.1 s for 1,000 reviews."""

import asyncio
from collections.abc import Sequence
from threading import Lock
from typing import Any

from reviewtune.analyzer.answer_reader import Verdicts
from reviewtune.analyzer.classifier import Identity, Note, Outcome, fingerprint, ignore
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.evaluation import linear_baseline

AT_ONCE = 1_000
"""Reviews whose features are in memory at the same time; more reviews than that get a progress bar."""


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

    @property
    def identity(self) -> Identity:
        settings = fingerprint(self._texts, self._answers, self._seed, self._verdicts)
        return Identity(self.model, self.version, None, settings)

    @property
    def policy(self) -> None:
        return None

    @property
    def weights(self) -> None:
        return None

    def shared_by(self, processes: int) -> "LinearClassifier":
        return self

    def __getstate__(self) -> dict[str, Any]:
        """With the fitted model, but without the lock, which belongs to a process."""
        return {name: value for name, value in vars(self).items() if name != "_fitting"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _fitting=Lock())

    def open(self) -> None:
        """Fit the model, once."""
        with self._fitting:
            if self._model is None:
                unfitted = linear_baseline.classifier(self._seed)
                self._model = linear_baseline.fit(unfitted, self._texts, self._answers)

    def written(self, texts: Sequence[str]) -> list[str]:
        return list(texts)

    def classify(self, texts: Sequence[str], *, cache: bool = False, progress: Progress = SILENT) -> list[Outcome]:
        """The cache is not used: it takes 1 ms per review."""
        if not texts:
            return []
        self.open()
        outcomes = list[Outcome]()
        with (progress if len(texts) > AT_ONCE else SILENT).bar("classifying", total=len(texts)) as step:
            for start in range(0, len(texts), AT_ONCE):
                some = self._classified(texts[start : start + AT_ONCE])
                outcomes += some
                step(len(some))
        return outcomes

    def _classified(self, texts: Sequence[str]) -> list[Outcome]:
        shares = self._model.predict_proba(list(texts))
        answers = self._model.classes_[shares.argmax(axis=1)]
        pairs = zip(answers, shares.max(axis=1), strict=True)
        return [self._verdicts.labelled(str(label), float(share)) for label, share in pairs]

    async def aclassify(self, texts: Sequence[str], note: Note = ignore) -> list[Outcome]:
        outcomes = await asyncio.to_thread(self.classify, texts)
        for index, outcome in enumerate(outcomes):
            note(index, outcome)
        return outcomes
