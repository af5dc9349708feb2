"""Which reviews a person should label: a random audit sample, new topics, and those the model is least sure about.

The audit is a simple random sample, so its accuracy is unbiased. If it draws several near-duplicates, one of them,
drawn at random, is asked and stands for all of them: its weight is their number. Let c be the number of drawn reviews
of a group; the weighted share of right answers has the same expectation as asking all c. The other reviews say nothing
about the accuracy, because they were chosen for being difficult.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from reviewtune.data.splits import alike, duplicate_groups, near_duplicates

NEW_TOPIC = "new topic"
REASONS = ("audit", NEW_TOPIC, "no label", "least sure", "random")
"""Why a review is chosen. That of a new topic is followed by its words: `new topic: app, crashes`."""
CHUNK = 500  # reviews compared with the others at once
TOPIC_SHARE = 0.25  # of the queue, at most
AUDIT_SHARE = 0.4  # of the queue, if not said otherwise
NO_REASONS: Mapping[int, str] = {}


class Prediction(NamedTuple):
    """A model's label, None without a usable answer, and its calibrated confidence in [0, 1], None if unknown."""

    label: str | None
    confidence: float | None


class Pick(NamedTuple):
    """A review to ask for.

    Attributes:
        position: in the pool.
        why: one of REASONS.
        weight: number of reviews of the audit sample that it stands for; 0: it is not in the sample.
    """

    position: int
    why: str
    weight: int = 0


class NewTopic(NamedTuple):
    """A group of new reviews that are alike and unlike the labelled ones.

    Attributes:
        words: its typical words, the most typical first.
        members: positions of its reviews in the pool, the most typical first.
    """

    words: tuple[str, ...]
    members: tuple[int, ...]

    @property
    def why(self) -> str:
        return f"{NEW_TOPIC}: {', '.join(self.words)}" if self.words else NEW_TOPIC


@dataclass(frozen=True)
class Pool:
    """The reviews of which some are chosen.

    Args:
        texts: normalised reviews; duplicates are allowed.
        predictions: of the same reviews.
        known: texts that are labelled already.
        similarity: texts at least this alike (`splits.METHOD`) are near-duplicates.
    """

    texts: Sequence[str]
    predictions: Sequence[Prediction]
    known: Sequence[str]
    similarity: float


def choose(pool: Pool, *, size: int, audit: int, topics: Sequence[NewTopic] = (), seed: int = 0) -> list[Pick]:
    """Choose reviews, none of which is a near-duplicate of another one or of a known text.

    Args:
        pool: where to choose.
        size: how many, if there are so many.
        audit: size of the random sample; at most `size`.
        topics: the new topics.
        seed: of the sample and of the order.

    Returns:
        The picks in random order, so that a person who stops in the middle has labelled a random part of the sample.
    """
    rng = np.random.default_rng(seed)
    order = [int(position) for position in rng.permutation(len(pool.texts))]
    picker = _Picker(pool)
    picker.draw_audit(order, min(audit, size))
    if topics:
        why_of = {member: topic.why for topic in topics for member in topic.members}
        most = min(int(TOPIC_SHARE * size), size - len(picker.picks))
        picker.take(_in_turn([topic.members for topic in topics]), most, NEW_TOPIC, why_of)
    for why, positions in _doubtful(pool, order):
        picker.take(positions, size - len(picker.picks), why)
    picks = picker.picks
    return [picks[place] for place in rng.permutation(len(picks))]


class _Picker:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.picks: list[Pick] = []

    def draw_audit(self, order: Sequence[int], count: int) -> None:
        """Draw `count` reviews in random order; near-duplicates among them are asked once."""
        drawn: list[int] = []
        for chunk in _chunks(order):
            if len(drawn) >= count:
                break
            drawn += self._unknown(chunk)
        drawn = drawn[:count]
        first: dict[int, int] = {}
        weights: dict[int, int] = {}
        groups = duplicate_groups(self._texts(drawn), self._pool.similarity).tolist() if drawn else []
        for position, group in zip(drawn, groups, strict=True):
            first.setdefault(group, position)
            weights[group] = weights.get(group, 0) + 1
        self.picks += [Pick(position, "audit", weights[group]) for group, position in first.items()]

    def take(self, order: Sequence[int], count: int, why: str, why_of: Mapping[int, str] = NO_REASONS) -> None:
        """Pick the first `count` reviews of an order that are not near-duplicates of picked or known ones.

        Args:
            order: positions in the pool.
            count: how many, at most.
            why: the reason.
            why_of: a more precise reason for some positions.
        """
        goal = len(self.picks) + count
        for chunk in _chunks(order):
            if len(self.picks) >= goal:
                return
            for position in self._different(self._unknown(chunk))[: goal - len(self.picks)]:
                self.picks.append(Pick(position, why_of.get(position, why)))

    def _different(self, positions: Sequence[int]) -> list[int]:
        """Those that are similar to no pick and to no earlier one of them."""
        texts = self._texts(positions)
        picked = self._texts([pick.position for pick in self.picks])
        taken = {pair.left for pair in alike(texts, picked, self._pool.similarity)} if picked and texts else set()
        kept: list[int] = []
        relatives: dict[int, set[int]] = {}
        for pair in near_duplicates(texts, self._pool.similarity) if texts else ():
            relatives.setdefault(pair.right, set()).add(pair.left)
        for place in range(len(positions)):
            if place not in taken and not relatives.get(place, set()) & set(kept):
                kept.append(place)
        return [positions[place] for place in kept]

    def _unknown(self, positions: Sequence[int]) -> list[int]:
        """Those that are not near-duplicates of a known text."""
        if not self._pool.known or not positions:
            return list(positions)
        pairs = alike(self._texts(positions), list(self._pool.known), self._pool.similarity)
        known = {pair.left for pair in pairs}
        return [position for place, position in enumerate(positions) if place not in known]

    def _texts(self, positions: Sequence[int]) -> list[str]:
        return [self._pool.texts[position] for position in positions]


def _doubtful(pool: Pool, order: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
    """Reviews without a label, then by confidence, then, if the model gives none, at random."""
    predictions = pool.predictions
    yield "no label", [at for at in order if predictions[at].label is None]
    rated = [(confidence, at) for at in order if (confidence := _confidence(predictions[at])) is not None]
    yield "least sure", [at for _, at in sorted(rated, key=lambda pair: pair[0])]
    yield "random", list(order)


def _confidence(prediction: Prediction) -> float | None:
    return prediction.confidence if prediction.label is not None else None


def _in_turn(topics: Sequence[Sequence[int]]) -> list[int]:
    """The first review of each topic, then the second ones, and so on."""
    longest = max(map(len, topics))
    return [topic[place] for place in range(longest) for topic in topics if place < len(topic)]


def _chunks(order: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(order), CHUNK):
        yield order[start : start + CHUNK]
