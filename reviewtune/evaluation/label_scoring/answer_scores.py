"""How likely each label is in one answer, from its tokens' alternatives: plain floats, as a served model needs them.

`label_logprobs` explains the method and does the same for a whole evaluation. Here is no numpy, which is half as large
as all else that an application installs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

TOP_LOGPROBS = 20
"""The highest number of alternatives that the protocol allows."""

CONFIDENCE_DIGITS = 4
"""Decimals of a confidence before it is calibrated or compared."""


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


def log_sum(logs: Sequence[float]) -> float:
    """The log of the sum of the numbers whose logs these are, added in the order of `numpy.logaddexp.reduce`."""
    total = logs[0]
    for log in logs[1:]:
        total = _log_add(total, log)
    return total


def _log_add(left: float, right: float) -> float:
    if left == right:  # also two infinities
        return left + math.log(2.0)
    return max(left, right) + math.log1p(math.exp(-abs(left - right)))


def normalised(row: Sequence[float]) -> list[float]:
    """The row of log-probabilities, shifted so that the probabilities sum to 1."""
    total = log_sum(row)
    return [log - total for log in row]


def without_prior(row: Sequence[float], prior: Sequence[float]) -> list[float]:
    """A normalised row, corrected as `correct_prior` corrects a review with these others.

    Args:
        row: log-probability of each label for the review.
        prior: log of each label's factor, estimated on other reviews; the factors' sum is the number of these.
    """
    return normalised([log - _log_add(others, log) for log, others in zip(row, prior, strict=True)])


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
            option.logprob - math.log(len(labels))
            for option, labels in zip(self.options, self.labels, strict=True)
            if label in labels
        ]
        return log_sum(parts) if parts else otherwise


def label_row(tokens: Sequence[Chosen] | None, texts: Mapping[str, bytes]) -> list[float]:
    """One log-probability per label; empty if the answer names no label.

    It walks along the answer. At each token, the labels that no longer fit get the log-probability of the alternatives
    that lead to them.
    """
    if not tokens or not texts:
        return []
    scores = dict.fromkeys(texts, -math.inf)
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
        return max(known, default=-math.inf)

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
