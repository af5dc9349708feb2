"""Open the folder of a served model: `open_classifier(Path("champion")).classify(["Still no parcel."])`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from reviewtune.analyzer.classification import Classification
from reviewtune.analyzer.served_model import ServedModel
from reviewtune.core.terminal.progress import Progress


class Classifier(Protocol):
    """A model that is ready to classify reviews, in the way in which it was evaluated."""

    @property
    def served(self) -> ServedModel:
        """What served_model.json says."""

    def classify(self, texts: Sequence[str]) -> list[Classification]:
        """One classification per text, in order.

        Raises:
            ProviderError: the provider could not be reached, or it refused the requests.
        """

    async def aclassify(self, texts: Sequence[str]) -> list[Classification]:
        """As `classify`, without blocking the event loop."""


def open_classifier(folder: Path, *, version: str | None = None, progress: Progress | None = None) -> Classifier:
    """Open a served model.

    Args:
        folder: with served_model.json.
        version: of the model in the registry, for the classifications.
        progress: receives messages; None: nothing is reported.

    Raises:
        DataError: the folder is not complete or damaged.
        ConfigError: the model needs a package that is not installed, or there is a budget without prices.
    """
    raise NotImplementedError
