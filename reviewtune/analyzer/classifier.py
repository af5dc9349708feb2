"""What a classifier of reviews is, and how the reviews are prepared for it."""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from reviewtune.analyzer.classification import Classification
from reviewtune.core.config.data import DataConfig
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.personal_data import prepared
from reviewtune.errors import ConfigError, DataError, ProviderError, installing

if TYPE_CHECKING:  # imports the price book
    from reviewtune.providers.call_policy import CallPolicy

Outcome = Classification | ProviderError
EMPTY = Classification(None, why="the review is empty")
NO_TEXT = ("None", "nan", "<NA>", "NaT")
"""How Python and pandas write a missing text."""
Note = Callable[[int, Outcome], None]
"""Receives the index of a text and its outcome, as soon as it is known."""


def classification_of(outcome: Outcome) -> Classification:
    """The classification; if the model could not be asked about the review, one without a label, with the reason."""
    return Classification(None, why=str(outcome)) if isinstance(outcome, ProviderError) else outcome


def texts_of(reviews: Iterable[object]) -> list[str]:
    """The reviews as a list of texts; a missing one, such as None or NaN, is an empty text.

    Raises:
        DataError: it is a single text, a whole table, or something in it is not a text.
    """
    if isinstance(reviews, str):
        raise DataError("reviews: this is a single text; give a list, such as [text]")
    if isinstance(reviews, Mapping) or hasattr(reviews, "columns"):  # both would give the names of their columns
        raise DataError("reviews: this is a table; give the column with the texts, such as table['text']")
    return [_text(review, place) for place, review in enumerate(reviews)]


def _text(review: object, place: int) -> str:
    if isinstance(review, str):
        return review
    if str(review) in NO_TEXT:
        return ""
    raise DataError(f"reviews[{place}]: this is of type {type(review).__name__}; a review is a text, or None if empty")


def ignore(index: int, outcome: Outcome) -> None:
    """For callers that need no outcome before the last one."""


class Identity(NamedTuple):
    """What a classification depends on, besides the review.

    Attributes:
        model: the model's name.
        version: of the served model; None: it is not a served model.
        prompt: the fingerprint of its prompt; None: it has none.
        settings: 16 hex digits that change with everything else: the provider, the settings of a request, the examples,
            the calibration, how the reviews are prepared.
    """

    model: str
    version: str | None
    prompt: str | None
    settings: str


def fingerprint(*parts: object) -> str:
    """16 hex digits that change with the parts, whose `repr` must show everything."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Weights(NamedTuple):
    """The weights of a model of the local provider.

    Attributes:
        model: its name.
        base: the base model that they belong to.
        adapter: their folder, in PEFT's format.
    """

    model: str
    base: str
    adapter: Path


class Classifier(Protocol):
    """Classifies reviews in the way in which the model was evaluated. Threads and event loops may share it.

    It can be pickled, so that processes on other machines classify in the same way.
    """

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def version(self) -> str | None:
        """The version of the served model; None: it is not a served model."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that it can give."""

    @property
    def is_calibrated(self) -> bool:
        """Whether its labels come with a confidence."""
        ...

    @property
    def identity(self) -> Identity:
        """Two classifiers with the same identity classify in the same way."""
        ...

    @property
    def policy(self) -> "CallPolicy | None":
        """How its provider is called; None: it needs no provider."""

    @property
    def weights(self) -> Weights | None:
        """What another machine's local provider needs to answer; None: nothing, or it is not known."""

    def shared_by(self, processes: int) -> "Classifier":
        """The classifier for each of several processes, which together keep the provider's limits."""
        ...

    def open(self) -> None:
        """Load what the first answer needs; starts the local provider's server.

        Raises:
            ProviderError: there is no key, or the server does not start.
        """

    def written(self, texts: Sequence[str]) -> list[str]:
        """The texts as the model gets them, in order: normalised, and masked if its training reviews were."""
        ...

    def classify(self, texts: Sequence[str], *, cache: bool = False, progress: Progress = SILENT) -> list[Outcome]:
        """The classification of each text, in order, or why the model could not be asked about it.

        Args:
            texts: the reviews.
            cache: look answers up in the cache of `reviewtune evaluate` first, keep new ones there, and raise the
                error if the provider fails: for files of reviews, so that none is paid twice. A review that alone got
                no answer has the error as its outcome; the next call asks about it again.
            progress: receives messages and a progress bar, with `cache` only.

        Raises:
            ProviderError: with `cache` only: the provider could not be reached, or it refused the requests.
        """

    async def aclassify(self, texts: Sequence[str], note: Note = ignore) -> list[Outcome]:
        """As `classify` without the cache; does not block the event loop.

        Args:
            texts: the reviews.
            note: receives each outcome as it comes, so that none is lost if the call is cancelled.
        """
        ...


class Prepared:
    """A classifier that gets its reviews as they would be in the training file: normalised, masked, and not empty.

    Args:
        inner: the model.
        data: section `data` of its configuration.

    Raises:
        ConfigError: masking needs a package that is not installed.
    """

    def __init__(self, inner: Classifier, data: DataConfig) -> None:
        self._inner, self._data = inner, data
        if data.mask_personal and find_spec("phonenumbers") is None:
            raise missing("the model was trained with data.mask_personal", "phonenumbers", "masking")

    @property
    def model(self) -> str:
        return self._inner.model

    @property
    def version(self) -> str | None:
        return self._inner.version

    @property
    def labels(self) -> tuple[str, ...]:
        return self._inner.labels

    @property
    def is_calibrated(self) -> bool:
        return self._inner.is_calibrated

    @property
    def identity(self) -> Identity:
        inner, data = self._inner.identity, self._data
        prepared = (data.mask_personal, data.language if data.mask_personal else None)
        return inner._replace(settings=fingerprint(inner.settings, *prepared))

    @property
    def policy(self) -> "CallPolicy | None":
        return self._inner.policy

    @property
    def weights(self) -> Weights | None:
        return self._inner.weights

    def shared_by(self, processes: int) -> "Prepared":
        return Prepared(self._inner.shared_by(processes), self._data)

    def open(self) -> None:
        self._inner.open()

    def classify(self, texts: Sequence[str], *, cache: bool = False, progress: Progress = SILENT) -> list[Outcome]:
        written = self.written(texts)
        return _with_empty(written, self._inner.classify([*filter(None, written)], cache=cache, progress=progress))

    async def aclassify(self, texts: Sequence[str], note: Note = ignore) -> list[Outcome]:
        # Masking takes milliseconds per review.
        written = await asyncio.to_thread(self.written, texts) if self._data.mask_personal else self.written(texts)
        asked = [index for index, text in enumerate(written) if text]
        for index in set(range(len(written))) - set(asked):
            note(index, EMPTY)
        inner = self._inner.aclassify([*filter(None, written)], lambda place, outcome: note(asked[place], outcome))
        return _with_empty(written, await inner)

    def written(self, texts: Sequence[str]) -> list[str]:
        return [prepared(text, self._data) for text in texts]


def _with_empty(written: Sequence[str], outcomes: Sequence[Outcome]) -> list[Outcome]:
    answered = iter(outcomes)
    return [next(answered) if text else EMPTY for text in written]


def missing(what: str, package: str | None, extra: str) -> ConfigError:
    """What to install for a model that needs more than the light client."""
    return ConfigError(f"{what}, which needs {package}: {installing(extra)}")
