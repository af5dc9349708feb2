"""How likely a model finds each label, from the log-probabilities that chat completions give; protocol only.

One request a review: an answer's tokens come with up to 20 alternatives each (`top_logprobs`). A label's score is the
log-probability of the branch on which it parts from all other labels, so labels of many tokens need no further request.

An un-tuned model prefers some labels whatever the review says. `correct_prior` takes that preference out with the
answers to the whole batch of reviews, and no label: batch calibration, Zhou et al., arXiv 2309.17249.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

TOP_LOGPROBS = 20
"""As many alternatives as the protocol allows."""


class Word(Protocol):
    """A token and how likely it was; `bytes` is its UTF-8, which a token alone may hold only a part of."""

    @property
    def token(self) -> str: ...
    @property
    def logprob(self) -> float: ...
    @property
    def bytes(self) -> list[int] | None: ...


class Chosen(Word, Protocol):
    """A token of the answer with the likeliest ones at its place."""

    @property
    def top_logprobs(self) -> Sequence[Word]: ...


@dataclass(frozen=True)
class LabelScores:
    """Log-probabilities [reviews, labels], rows normalised over the labels; a row of NaN is a review without any."""

    labels: tuple[str, ...]
    logprobs: "Matrix"

    def best(self) -> list[str | None]:
        """The likeliest label of each review, the first of the list where several are; None without scores."""
        rows: list[list[float]] = self.logprobs.tolist()
        return [None if np.isnan(row).any() else self.labels[int(np.argmax(row))] for row in rows]

    def confidence(self) -> "NDArray[np.float64]":
        """The best label's probability in [0, 1]; 0 without scores."""
        best: NDArray[np.float64] = np.exp(self.logprobs).max(axis=1)
        return np.where(np.isnan(best), 0.0, best)


def label_scores(
    labels: Sequence[str], answers: Sequence[Sequence[Chosen] | None], readings: Sequence[Mapping[str, bytes]]
) -> LabelScores:
    """Scores of a batch. `readings` says of each answer how it would read for each label (`Prompt.readings`)."""
    rows = [_row(tokens, texts) or [np.nan] * len(labels) for tokens, texts in zip(answers, readings, strict=True)]
    return LabelScores(tuple(labels), normalise(np.array(rows, dtype=float).reshape(len(rows), len(labels))))


def correct_prior(scores: LabelScores) -> LabelScores:
    """Divide by the mean probability of each label over the batch, and normalise again (arXiv 2309.17249, eq. 5).

    It assumes that no label is much more frequent than another in the batch; a batch of one review says nothing about
    the prior and comes back with every label alike.
    """
    known = scores.logprobs[~np.isnan(scores.logprobs).any(axis=1)]
    if not len(known):
        return scores
    prior = np.logaddexp.reduce(known, axis=0) - np.log(len(known))
    return LabelScores(scores.labels, normalise(scores.logprobs - prior))


def normalise(logprobs: "Matrix") -> "Matrix":
    """Rows whose probabilities sum to 1."""
    if not logprobs.size:
        return logprobs
    with np.errstate(invalid="ignore"):  # rows without scores stay so
        return logprobs - np.logaddexp.reduce(logprobs, axis=1, keepdims=True)


def _row(tokens: Sequence[Chosen] | None, texts: Mapping[str, bytes]) -> list[float]:
    """Walk along the answer; at each token the labels that leave it get the alternatives that lead to them.

    Empty when the answer names no label.
    """
    if not tokens or not texts:
        return []
    found = dict.fromkeys(texts, -np.inf)
    so_far, read, staying = 0.0, b"", set(texts)
    named = _named(tokens, texts)
    for token in tokens:
        options = token.top_logprobs or [token]
        led = _led(options, read, {name: texts[name] for name in staying})
        ways = _ways(options, led, staying)
        read += _spelt(token)
        chosen = next((names for one, names in zip(options, led, strict=True) if one.token == token.token), set())
        ahead = chosen | (named & staying) if chosen else {name for name in staying if _leads(b"", read, texts[name])}
        floor = min(one.logprob for one in options)  # an unlisted token is at most as likely as the last listed one
        for name in staying - ahead if ahead else staying:
            found[name] = so_far + (float(np.logaddexp.reduce(ways[name])) if ways[name] else floor)
        if len(ahead) <= 1:
            for name in ahead:
                found[name] = so_far + (float(np.logaddexp.reduce(ways[name])) if ways[name] else token.logprob)
            return list(found.values())
        so_far, staying = so_far + token.logprob, ahead
    return []  # the answer ended before it named a label


def _named(tokens: Sequence[Chosen], texts: Mapping[str, bytes]) -> set[str]:
    """The label that the whole answer names, whatever its tokens; of two that begin alike the longer."""
    whole = b"".join(_spelt(token) for token in tokens).lstrip()
    return set(
        sorted((name for name in texts if whole.startswith(texts[name])), key=lambda name: -len(texts[name]))[:1]
    )


def _led(options: Sequence[Word], read: bytes, texts: Mapping[str, bytes]) -> list[set[str]]:
    """The labels that each option leads to.

    "no" is how both no_issue and not_as_described begin, but a model that means the latter says "not": an option that
    is the beginning of several labels is left to those for which no longer one is listed, or for which that one is the
    least likely.
    """
    reach = [{name for name, text in texts.items() if _leads(read, _spelt(one), text)} for one in options]

    def spelt_out(name: str, begun: Word) -> float:
        longer = [
            one.logprob
            for one, names in zip(options, reach, strict=True)
            if name in names and len(_spelt(one).strip()) > len(_spelt(begun).strip())
        ]
        return max(longer, default=-np.inf)

    led = []
    for one, names in zip(options, reach, strict=True):
        least = min((spelt_out(name, one) for name in names), default=0.0)
        led.append({name for name in names if spelt_out(name, one) == least})
    return led


def _ways(options: Sequence[Word], led: Sequence[set[str]], names: set[str]) -> dict[str, list[float]]:
    """Log-probabilities of the options that lead to each label; one that leads to several counts in equal parts."""
    ways: dict[str, list[float]] = {name: [] for name in names}
    for option, reached in zip(options, led, strict=True):
        for name in reached:
            ways[name].append(option.logprob - float(np.log(len(reached))))
    return ways


def _leads(read: bytes, word: bytes, text: bytes) -> bool:
    """Whether `word` after what was read leads to `text`, or beyond its end; white space before it is left out."""
    whole = (read + word).lstrip()
    return bool(whole) and (text.startswith(whole) or whole.startswith(text))


def _spelt(word: Word) -> bytes:
    return bytes(word.bytes) if word.bytes is not None else word.token.encode()
