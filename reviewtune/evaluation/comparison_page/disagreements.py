"""The reviews on which the arms disagree, each with all arms' answers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from reviewtune.evaluation.comparison.compare import Arm

SHOWN = 2_000  # reviews, so that the page stays small; predictions.csv of each arm has all
CHARACTERS = 500  # of a review


class Answer(NamedTuple):
    """One arm's answer to a review."""

    predicted: str
    correct: bool


class Disagreement(NamedTuple):
    """One review; `text` is empty if texts are left out, `answers` are in the order of the arms."""

    review_id: str
    text: str
    label: str
    answers: tuple[Answer, ...]


def disputing(arms: Sequence[Arm]) -> list[Arm]:
    """The arms whose answers are compared: all but `majority`, which would disagree about almost every review."""
    return [arm for arm in arms if arm.kind != "majority"]


def disagreements(arms: Sequence[Arm], texts: Mapping[str, str]) -> Iterator[Disagreement]:
    """The reviews to which `disputing` arms gave different answers, in the order of the test file.

    Args:
        arms: the compared arms; all have classified the same reviews.
        texts: review by id; empty: texts are left out.
    """
    shown = disputing(arms)
    by_arm = [dict(zip(arm.predictions["review_id"], arm.predictions["predicted"], strict=True)) for arm in shown]
    table = arms[0].predictions
    for review_id, label in zip(table["review_id"], table["label"], strict=True):
        predicted = [answers[review_id] for answers in by_arm]
        if len(set(predicted)) > 1:
            answers = tuple(Answer(one, one == label) for one in predicted)
            yield Disagreement(review_id, _cut(texts.get(review_id, "")), label, answers)


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS else text[:CHARACTERS].rstrip() + " …"
