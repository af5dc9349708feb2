"""How MLflow's tools load and ask a registered model: `mlflow.pyfunc.load_model("models:/NAME@champion")`.

MLflow imports this module from the copy of reviewtune that is stored with the model, and calls `_load_pyfunc`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from reviewtune.analyzer.classification import Classification
from reviewtune.analyzer.classifier import Classifier, Outcome, texts_of
from reviewtune.analyzer.open_classifier import open_classifier

TEXT = "text"
INPUTS = {TEXT: "string"}
OUTPUTS = {"label": "string", "confidence": "double", "sure": "boolean", "why": "string"}
"""Columns of the answer, with their types in MLflow's words; `why` is the reason if there is no label."""


class PyfuncModel:
    """Classifies the column `text` of a table."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """One row per review, with the columns of OUTPUTS. `params` is part of MLflow's interface and not used."""
        outcomes = self._classifier.classify(texts_of(model_input[TEXT]))
        rows = [_row(outcome) for outcome in outcomes]
        return pd.DataFrame(rows, columns=list(OUTPUTS), index=model_input.index)


def _row(outcome: Outcome) -> list[object]:
    """The columns of OUTPUTS; a review about which the model could not be asked has the error as its reason."""
    if isinstance(outcome, Classification):
        return [getattr(outcome, name) for name in OUTPUTS]
    return [None, None, False, str(outcome)]


def _load_pyfunc(path: str) -> PyfuncModel:
    """MLflow calls this with the folder of the served model."""
    return PyfuncModel(open_classifier(Path(path)))
