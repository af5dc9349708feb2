"""How likely each label is to a model, from the log-probabilities that chat completions return.

One request per review is enough: each token of an answer comes with up to 20 alternatives (`top_logprobs`). A label's
score is the log-probability of the branch at which it separates from all other labels, so labels of many tokens need no
further request.

A base model prefers some labels whatever the review says. `correct_prior` removes that preference. It uses the answers
to a batch of reviews and no true label: batch calibration, Zhou et al., arXiv 2309.17249.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

TOP_LOGPROBS = 20
"""The highest number of alternatives that the protocol allows."""


class Word(Protocol):
    """A token and its log-probability; `bytes` is its UTF-8, possibly a part of a character."""

    @property
    def token(self) -> str: ...
    @property
    def logprob(self) -> float: ...
    @property
    def bytes(self) -> list[int] | None: ...


class Chosen(Word, Protocol):
    """A token of the answer with the most likely tokens in its place."""

    @property
    def top_logprobs(self) -> Sequence[Word]: ...


@dataclass(frozen=True)
class LabelScores:
    """Log-probabilities of the labels for a batch of reviews.

    Args:
        labels: the label list.
        logprobs: [reviews, labels], each row normalised over the labels; NaN for a review without scores.
    """

    labels: tuple[str, ...]
    logprobs: "Matrix"

    def best(self) -> list[str | None]:
        """The most likely label of each review, the first in the list of equal ones; None without scores."""
        rows: list[list[float]] = self.logprobs.tolist()
        return [None if np.isnan(row).any() else self.labels[int(np.argmax(row))] for row in rows]

    def confidence(self) -> "NDArray[np.float64]":
        """The best label's probability in [0, 1]; 0 without scores."""
        best: NDArray[np.float64] = np.exp(self.logprobs).max(axis=1)
        return np.where(np.isnan(best), 0.0, best)


def label_scores(
    labels: Sequence[str], answers: Sequence[Sequence[Chosen] | None], readings: Sequence[Mapping[str, bytes]]
) -> LabelScores:
    """Scores of a batch of answers.

    Args:
        labels: the label list.
        answers: the tokens of each answer; None: it came without log-probabilities.
        readings: how each answer would read for each label, as `Prompt.readings` returns it.
    """
    rows = [_row(tokens, texts) or [np.nan] * len(labels) for tokens, texts in zip(answers, readings, strict=True)]
    return LabelScores(tuple(labels), normalise(np.array(rows, dtype=float).reshape(len(rows), len(labels))))


def correct_prior(scores: LabelScores, others: LabelScores | None = None) -> LabelScores:
    """Divide by the mean probability of each label over a batch of reviews, and normalise again.

    It assumes that no label is much more frequent than another in the batch: it removes the true frequency of a label
    together with the model's preference for it. A batch of one review says nothing about the prior: all its labels
    become equally likely.

    Args:
        scores: of the reviews to correct.
        others: of other reviews, such as the validation split. The batch of a review is then the review and these,
            so its label does not depend on the other reviews in `scores`: a served model can do the same. The review
            itself is in the batch because it bounds the correction of a label that is hardly ever likely in `others`.
            None: the batch is all reviews in `scores`.

    Source: arXiv 2309.17249, equation 5. On the 193 English test reviews, the prior of 97 others is as good as that of
    the whole batch: 42.0 % against 42.2 % (zero_shot) and 58.2 % against 58.1 % (few_shot, gemma-3-270m).
    """
    known = _without_holes((others or scores).logprobs)
    if not len(known):
        return scores
    total = np.logaddexp.reduce(known, axis=0)
    if others is not None:
        total = np.logaddexp(total, scores.logprobs)  # [reviews, labels]: each with its own batch
    return LabelScores(scores.labels, normalise(scores.logprobs - total))


def label_prior(scores: LabelScores) -> dict[str, float]:
    """By label, the log of its summed probability over the reviews: the batch of `correct_prior`, in a few numbers.

    A served model corrects the prior of one review with it. Empty if no review has scores.
    """
    known = _without_holes(scores.logprobs)
    totals: list[float] = np.logaddexp.reduce(known, axis=0).tolist() if len(known) else []
    return dict(zip(scores.labels, totals, strict=True)) if totals else {}


def _without_holes(logprobs: "Matrix") -> "Matrix":
    """The rows of reviews that have scores."""
    return logprobs[~np.isnan(logprobs).any(axis=1)]


def normalise(logprobs: "Matrix") -> "Matrix":
    """The rows of [reviews, labels], shifted so that the probabilities of each sum to 1."""
    if not logprobs.size:
        return logprobs
    with np.errstate(invalid="ignore"):  # rows of NaN stay NaN
        return logprobs - np.logaddexp.reduce(logprobs, axis=1, keepdims=True)


@dataclass(frozen=True, kw_only=True)
class _Branches:
    """The alternatives at one token of the answer, and the labels that each leads to."""

    token: Chosen
    options: Sequence[Word]
    labels: Sequence[set[str]]

    def chosen(self) -> set[str]:
        """The labels to which the token that was chosen leads."""
        pairs = zip(self.options, self.labels, strict=True)
        return next((labels for option, labels in pairs if option.token == self.token.token), set())

    def floor(self) -> float:
        """An unlisted token is at most as likely as the last listed one."""
        return min(option.logprob for option in self.options)

    def logprob(self, label: str, *, otherwise: float) -> float:
        """Log-probability of the options that lead to the label; one that leads to several counts in equal parts."""
        parts = [
            option.logprob - float(np.log(len(labels)))
            for option, labels in zip(self.options, self.labels, strict=True)
            if label in labels
        ]
        return float(np.logaddexp.reduce(parts)) if parts else otherwise


def _row(tokens: Sequence[Chosen] | None, texts: Mapping[str, bytes]) -> list[float]:
    """One log-probability per label; empty if the answer names no label.

    It walks along the answer. At each token, the labels that no longer fit get the log-probability of the alternatives
    that lead to them.
    """
    if not tokens or not texts:
        return []
    scores = dict.fromkeys(texts, -np.inf)
    so_far, read, candidates = 0.0, b"", set(texts)
    named = _named(tokens, texts)
    for token in tokens:
        branches = _branches(token, read, {label: texts[label] for label in candidates})
        read += _bytes_of(token)
        remaining = _remaining(branches, read, candidates, named, texts)
        for label in candidates - remaining:
            scores[label] = so_far + branches.logprob(label, otherwise=branches.floor())
        if len(remaining) <= 1:
            for label in remaining:
                scores[label] = so_far + branches.logprob(label, otherwise=token.logprob)
            return list(scores.values())
        so_far, candidates = so_far + token.logprob, remaining
    return []  # the answer ended before it named a label


def _remaining(
    branches: _Branches, read: bytes, candidates: set[str], named: set[str], texts: Mapping[str, bytes]
) -> set[str]:
    """The candidates that the answer can still become after the bytes read so far."""
    if chosen := branches.chosen():
        return chosen | (named & candidates)
    return {label for label in candidates if _leads(b"", read, texts[label])}


def _named(tokens: Sequence[Chosen], texts: Mapping[str, bytes]) -> set[str]:
    """The label that the whole answer names, whatever its tokens are; the longer of two that begin alike."""
    whole = b"".join(_bytes_of(token) for token in tokens).lstrip()
    fitting = [label for label, text in texts.items() if whole.startswith(text)]
    return {max(fitting, key=lambda label: len(texts[label]))} if fitting else set()


def _branches(token: Chosen, read: bytes, texts: Mapping[str, bytes]) -> _Branches:
    """The alternatives at a token, each with the labels that it leads to.

    "no" is how both no_issue and not_as_described begin, but a model that means the latter says "not". An option that
    is the beginning of several labels therefore counts for those that no longer option spells out, or whose longer
    options are the least likely.
    """
    options = token.top_logprobs or [token]
    reach = [{label for label, text in texts.items() if _leads(read, _bytes_of(option), text)} for option in options]

    def longer(label: str, option: Word) -> float:
        """The highest log-probability of an option that spells out more of the label."""
        length = len(_bytes_of(option).strip())
        known = [
            other.logprob
            for other, labels in zip(options, reach, strict=True)
            if label in labels and len(_bytes_of(other).strip()) > length
        ]
        return max(known, default=-np.inf)

    kept = []
    for option, labels in zip(options, reach, strict=True):
        least = min((longer(label, option) for label in labels), default=0.0)
        kept.append({label for label in labels if longer(label, option) == least})
    return _Branches(token=token, options=options, labels=kept)


def _leads(read: bytes, word: bytes, text: bytes) -> bool:
    """Whether `word` after `read` leads to `text` or beyond its end; leading white space does not count."""
    whole = (read + word).lstrip()
    return bool(whole) and (text.startswith(whole) or whole.startswith(text))


def _bytes_of(word: Word) -> bytes:
    return bytes(word.bytes) if word.bytes is not None else word.token.encode()
