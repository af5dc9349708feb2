"""The whole report, with a linear model in this process: what is new, what is too little, and what has not changed."""

import csv
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from reviewtune.analyzer.answer_reader import Verdicts
from reviewtune.analyzer.calibration import fit_calibration
from reviewtune.analyzer.linear_classifier import LinearClassifier
from reviewtune.deployment.reference import StoredReference, make_reference
from reviewtune.deployment.text_features import text_features
from reviewtune.evaluation import linear_baseline
from reviewtune.monitoring.monitor import Watched, monitor
from reviewtune.monitoring.new_reviews import NewReviews

RAW = Path(__file__).parents[2] / "data" / "raw"
TRAINING, VALIDATION, TEST = 200, 60, 120


def rows_of(name: str) -> list[dict[str, str]]:
    with (RAW / name).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]


def stream_of(texts: list[str]) -> NewReviews:
    dates: tuple[date | None, ...] = (None,) * len(texts)
    return NewReviews(Path("new.csv"), "", tuple(texts), dates, len(texts), ())


@pytest.fixture(scope="module")
def watched() -> Watched:
    rows = rows_of("reviews_en.csv")[: TRAINING + VALIDATION + TEST]
    texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
    answers = linear_baseline.fit_predict(texts[:TRAINING], labels[:TRAINING], texts[TRAINING:], seed=0)
    right = [label == truth for label, truth in zip(answers.labels, labels[TRAINING:], strict=True)]
    calibration = fit_calibration(answers.confidence[:VALIDATION], right[:VALIDATION])
    assert calibration is not None
    facts = make_reference(
        texts[-TEST:],
        labels[-TEST:],
        answers.labels[VALIDATION:],
        [calibration.of(share) for share in answers.confidence[VALIDATION:]],
        training=TRAINING + VALIDATION,
    )
    classifier = LinearClassifier(
        texts[:TRAINING],
        labels[:TRAINING],
        labels=tuple(sorted(set(labels))),
        seed=0,
        verdicts=Verdicts(model="linear", calibration=calibration),
    )
    return Watched("shop", "1", classifier, StoredReference(facts, text_features(texts)))


def test_reviews_like_the_test_reviews_are_calm_and_their_accuracy_is_estimated(watched: Watched) -> None:
    rest = rows_of("reviews_en.csv")[TRAINING + VALIDATION + TEST :]
    calm = 0
    for rows in (rest[0::2], rest[1::2]):
        texts = [row["text"] for row in rows]
        found = monitor(watched, stream_of(texts))
        calm += found.verdict == "calm"
        answers = watched.classifier.classify(texts)
        right = [one.label == row["label"] for one, row in zip(answers, rows, strict=True)]  # type: ignore[union-attr]
        assert found.accuracy.accuracy is not None
        assert found.accuracy.accuracy.low <= np.mean(right) <= found.accuracy.accuracy.high
        assert found.accuracy.status == "estimated" or found.verdict == "alarm"
    assert calm >= 1  # one report in twenty may be an alarm; two of two are one in hundreds


def test_a_file_of_another_language_is_an_alarm_and_its_accuracy_is_not_trusted(watched: Watched) -> None:
    found = monitor(watched, stream_of([row["text"] for row in rows_of("reviews_ko.csv")[:60]]))
    assert found.verdict == "alarm"
    language = next(test for test in found.alarms if test.group == "language")
    assert "not in the reference: ko 60" in language.seen
    assert found.accuracy.status == "not reliable"
    assert "the languages changed" in found.accuracy.why


def test_three_reviews_are_counted_but_not_tested(watched: Watched) -> None:
    found = monitor(watched, stream_of(["Late.", "Broken.", "It never came."]))
    assert (found.verdict, found.tests, found.compared) == ("calm", (), 3)
    assert found.accuracy.status == "not known"
    assert any("nothing was tested: fewer than 20 new reviews" in note for note in found.notes)


def test_the_same_short_reviews_again_and_again_are_no_change(watched: Watched) -> None:
    """The test reviews have each text once, so a tenth of "Great!" is no other mix of labels."""
    rest = [row["text"] for row in rows_of("reviews_en.csv")[TRAINING + VALIDATION + TEST :]]
    with_repeats = monitor(watched, stream_of([*rest, *["Great!", "GREAT!"] * 30]))
    assert with_repeats.compared == len(rest) + 1
    assert with_repeats.reviews == len(rest) + 60
    assert with_repeats.verdict == monitor(watched, stream_of([*rest, "Great!"])).verdict == "calm"
    assert any("59 repeats of a text left out" in note for note in with_repeats.notes)
