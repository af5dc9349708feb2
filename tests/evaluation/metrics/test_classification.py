"""Scores against scikit-learn's own report, and what must hold for any predictions."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, classification_report

from reviewtune.errors import DataError
from reviewtune.evaluation.metrics.classification import INVALID, Scores, per_label_table, score
from reviewtune.evaluation.metrics_file import ArmMetrics

LABELS = ["delivery", "quality", "refund", "other"]

few = settings(max_examples=40)

Pairs = list[tuple[str, str]]
pairs = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, INVALID])), min_size=1, max_size=60)

# Every number in Scores must be in one of the two lists; `test_every_number_has_its_properties` checks that.
COUNTS: dict[str, Callable[[Scores], float]] = {
    "n": lambda s: s.n,
    "correct": lambda s: s.correct,
    "invalid": lambda s: s.invalid,
}
SHARES: dict[str, Callable[[Scores], float]] = {
    "accuracy": lambda s: s.accuracy,
    "macro.precision": lambda s: s.macro.precision,
    "macro.recall": lambda s: s.macro.recall,
    "macro.f1": lambda s: s.macro.f1,
    "weighted.precision": lambda s: s.weighted.precision,
    "weighted.recall": lambda s: s.weighted.recall,
    "weighted.f1": lambda s: s.weighted.f1,
}
TABLES = {"labels", "per_label", "confusion"}


def scored(rows: Pairs) -> Scores:
    return score([true for true, _ in rows], [pred for _, pred in rows], labels=LABELS)


def test_every_number_has_its_properties() -> None:
    named = {name.partition(".")[0] for name in (*COUNTS, *SHARES)} - {"accuracy"}
    assert named | TABLES == set(Scores.__dataclass_fields__)


@few
@given(pairs, st.randoms())
def test_the_order_of_rows_does_not_matter(rows: Pairs, random: Random) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert scored(shuffled) == scored(rows)


@few
@given(pairs)
def test_shares_lie_between_0_and_1(rows: Pairs) -> None:
    for name, share in SHARES.items():
        assert 0 <= share(scored(rows)) <= 1 + 1e-12, name


@few
@given(st.lists(st.sampled_from(LABELS), min_size=1))
def test_right_answers_score_1_on_every_label_present(labels: list[str]) -> None:
    scores = scored([(label, label) for label in labels])
    assert scores.accuracy == 1
    assert {label.f1 for label in scores.per_label.values() if label.support} == {1.0}
    for name in ("weighted.precision", "weighted.recall", "weighted.f1"):
        assert SHARES[name](scores) == pytest.approx(1)


@few
@given(pairs, st.data())
def test_an_unusable_answer_never_raises_accuracy_or_recall(rows: Pairs, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(rows) - 1))
    worse = [(true, INVALID) if i == at else (true, pred) for i, (true, pred) in enumerate(rows)]
    before, after = scored(rows), scored(worse)
    assert after.accuracy <= before.accuracy
    assert after.macro.recall <= before.macro.recall + 1e-12
    assert after.n == before.n


@few
@given(pairs)
def test_the_confusion_matrix_holds_every_review_once(rows: Pairs) -> None:
    scores = scored(rows)
    assert sum(map(sum, scores.confusion)) == scores.n == len(rows)
    assert sum(row[-1] for row in scores.confusion) == scores.invalid == sum(pred == INVALID for _, pred in rows)
    assert [sum(row) for row in scores.confusion] == [scores.per_label[label].support for label in LABELS]


@few
@given(pairs)
def test_equals_scikit_learns_report(rows: Pairs) -> None:
    true, pred = [t for t, _ in rows], [p for _, p in rows]
    report = classification_report(true, pred, labels=LABELS, output_dict=True, zero_division=0)
    scores = scored(rows)
    assert scores.accuracy == pytest.approx(accuracy_score(true, pred))
    for ours, theirs in ((scores.macro, "macro avg"), (scores.weighted, "weighted avg")):
        averages = (ours.precision, ours.recall, ours.f1)
        assert averages == pytest.approx(tuple(report[theirs][name] for name in ("precision", "recall", "f1-score")))
    for label, label_score in scores.per_label.items():
        values = (label_score.precision, label_score.recall, label_score.f1, label_score.support)
        assert values == pytest.approx(tuple(report[label].values()))


def test_the_example_of_scikit_learns_user_guide() -> None:
    """https://scikit-learn.org/stable/modules/model_evaluation.html, classification_report: 0.67, 0, 0.80; 0.60."""
    names = ["class 0", "class 1", "class 2"]
    true, pred = ([names[i] for i in numbers] for numbers in ([0, 1, 2, 2, 0], [0, 0, 2, 1, 0]))
    scores = score(true, pred, labels=names)
    assert [round(label.f1, 2) for label in scores.per_label.values()] == [0.8, 0.0, 0.67]
    assert scores.accuracy == 0.6
    assert round(scores.macro.f1, 2) == 0.49
    assert round(scores.weighted.precision, 2) == 0.67


def test_undefined_values_are_0_and_listed() -> None:
    scores = score(["delivery", "quality"], ["delivery", "refund"], labels=LABELS)
    assert scores.never_predicted == ("quality", "other")
    assert scores.without_reviews == ("refund", "other")
    assert scores.per_label["quality"].precision == scores.per_label["refund"].recall == 0


@pytest.mark.parametrize(
    ("true", "pred", "message"),
    [
        ([], [], "the test set is empty"),
        (["delivery"], [], "1 labels but 0 predictions"),
        (["delivry"], ["delivery"], "label 'delivry' is not one of the 4 labels: delivery, quality, refund, other"),
        (["delivery"], ["Delivery"], "prediction 'Delivery' is neither one of the 4 labels nor '\\(unusable\\)'"),
    ],
)
def test_predictions_that_cannot_be_scored_are_refused(true: list[str], pred: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        score(true, pred, labels=LABELS)


def test_a_label_list_that_is_ambiguous_is_refused() -> None:
    with pytest.raises(DataError, match="distinct"):
        score(["a"], ["a"], labels=["a", "a"])
    with pytest.raises(DataError, match="distinct"):
        score(["a"], ["a"], labels=["a", INVALID])


def test_metrics_and_table() -> None:
    scores = scored([("delivery", "delivery"), ("delivery", INVALID), ("quality", "quality"), ("quality", "refund")])
    metrics = ArmMetrics.of_scores(scores, arm="x", kind="prompt", model="m", test_sha256="t")
    assert (metrics.n, metrics.correct, metrics.invalid) == (4, 2, 1)
    assert metrics.accuracy.low < metrics.accuracy.value == 0.5 < metrics.accuracy.high
    assert (metrics.precision, metrics.recall, metrics.f1) == (1.0, 0.5, 0.666667)
    assert (metrics.macro.precision, metrics.macro.recall, metrics.macro.f1) == (0.5, 0.25, 0.333333)
    table = per_label_table(scores)
    assert list(table.columns) == ["label", "support", "predicted", "precision", "recall", "f1"]
    assert table["label"].tolist() == LABELS
    assert table["predicted"].tolist() == [1, 1, 1, 0]
