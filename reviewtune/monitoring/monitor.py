"""Compare new reviews with the reference of the model that applications use; every test, one verdict."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from reviewtune.analyzer.classification import Classification
from reviewtune.analyzer.classifier import Classifier
from reviewtune.core.config.data import DataConfig
from reviewtune.core.formatting import counted
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.language_detection import detect
from reviewtune.deployment.reference import StoredReference
from reviewtune.deployment.text_features import TextFeatures, text_features
from reviewtune.evaluation.metrics.significance import ALPHA, DIGITS
from reviewtune.monitoring import drift_tests, estimated_accuracy
from reviewtune.monitoring.alarms import Raw, adjusted
from reviewtune.monitoring.new_reviews import NewReviews, as_prepared
from reviewtune.monitoring.new_topics import EXAMPLES, Group, Search, find_topics, typical_words
from reviewtune.monitoring.recorded_reviews import answers_to
from reviewtune.monitoring.report_file import LabelShare, Monitoring, Test, Topic
from reviewtune.monitoring.surges import surges
from reviewtune.monitoring.text_drift import text_drift

FEWEST = 20
"""Reviews on each side; fewer cannot be compared, and the report says so."""
NONE = "(unusable)"


@dataclass(frozen=True)
class Watched:
    """The model in use.

    Args:
        name: in the registry.
        version: of the registry, or of the folder.
        classifier: answers the new reviews.
        reference: what promotion stored.
        data: section `data` of the configuration that it was evaluated with; None: nothing is masked.
        versions: all names of the version, as recordings have them.
    """

    name: str
    version: str
    classifier: Classifier
    reference: StoredReference
    data: DataConfig | None = None
    versions: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Answers:
    labels: tuple[str | None, ...]
    confidence: tuple[float, ...] | None  # 0 without a usable answer; None: the model has none
    notes: tuple[str, ...] = ()


def monitor(watched: Watched, new: NewReviews, *, with_texts: bool = True, progress: Progress = SILENT) -> Monitoring:
    """The report on the new reviews.

    Args:
        watched: the model and its reference.
        new: the new reviews.
        with_texts: show example reviews of new topics.
        progress: receives messages and a progress bar.

    Raises:
        ProviderError: the model cannot be asked.
    """
    new = as_prepared(new, watched.data)
    answers = _ask(watched, new, progress)
    surge_tests, surge_note = surges(answers.labels, new.dates)
    new, answers = _distinct(new, answers)
    enough = min(len(new.texts), len(watched.reference.facts.labels)) >= FEWEST
    features = text_features(new.texts)
    search = find_topics(watched.reference.training, watched.reference.test, features) if enough else None
    outcome = _estimate(watched, answers) if enough else None
    raw = [*_drift(watched, new, answers, features), *_topic_test(search)] if enough else []
    tests = adjusted([*raw, *([outcome.drop] if outcome and enough else []), *(surge_tests if enough else [])])
    too_few = "" if enough else f"nothing was tested: fewer than {FEWEST} new reviews or test reviews"
    notes = (*answers.notes, surge_note, too_few)
    return _report(watched, new, answers, search, outcome, tests, notes, with_texts=with_texts)


def _ask(watched: Watched, new: NewReviews, progress: Progress) -> _Answers:
    """The model's answers: those that it gave when they were recorded, or from the answer cache if it has them."""

    def ask(texts: Sequence[str]) -> list[Classification]:
        outcomes = watched.classifier.classify(texts, cache=True, progress=progress)
        return [one if isinstance(one, Classification) else Classification(None) for one in outcomes]

    recorded = new.recorded or [None] * len(new.texts)
    model, versions = watched.classifier.model, watched.versions or {watched.version}
    found = answers_to(new.texts, recorded, model=model, versions=versions, ask=ask)
    answers = found.answers
    known = watched.reference.facts.confidence is not None and watched.classifier.is_calibrated
    confidence = tuple((one.confidence or 0.0) if one.label else 0.0 for one in answers)
    notes = tuple(found.notes(new.recorded is not None))
    return _Answers(tuple(one.label for one in answers), confidence if known else None, notes)


def _distinct(new: NewReviews, answers: _Answers) -> tuple[NewReviews, _Answers]:
    """Each text once, as in the test reviews; customers who write "Great!" are no change."""
    first = {text.casefold(): place for place, text in reversed([*enumerate(new.texts)])}
    places = sorted(first.values())
    repeats = len(new.texts) - len(places)
    if not repeats:
        return new, answers
    confidence = answers.confidence
    note = f"{counted(repeats, 'repeat')} of a text left out, as in the test reviews; surges count all"
    return (
        replace(
            new,
            texts=tuple(new.texts[place] for place in places),
            dates=tuple(new.dates[place] for place in places),
            recorded=new.recorded and tuple(new.recorded[place] for place in places),
        ),
        _Answers(
            tuple(answers.labels[place] for place in places),
            confidence and tuple(confidence[place] for place in places),
            (*answers.notes, note),
        ),
    )


def _drift(watched: Watched, new: NewReviews, answers: _Answers, features: TextFeatures) -> list[Raw]:
    facts = watched.reference.facts
    found = [
        drift_tests.label_mix(facts.predicted, answers.labels),
        *drift_tests.label_shares(facts.predicted, answers.labels, watched.classifier.labels),
        drift_tests.unusable_answers(facts.predicted, answers.labels),
        drift_tests.lengths(facts.lengths, [len(text) for text in new.texts]),
        drift_tests.languages(facts.languages, [each.language for each in detect(new.texts)]),
    ]
    if facts.confidence is not None and answers.confidence is not None:
        found.append(drift_tests.confidence(facts.confidence, answers.confidence))
    strata = ([label or NONE for label in facts.predicted], [label or NONE for label in answers.labels])
    drift = text_drift(watched.reference.test, features, strata)
    return [*filter(None, found), *(drift.tests() if drift else [])]


def _topic_test(search: Search | None) -> list[Raw]:
    """The search as one test; its p-value holds for all groups together."""
    if search is None:
        return []
    largest = max((len(group.members) for group in search.groups), default=0)
    seen = f"{len(search.groups)} found, the largest has {largest} reviews" if search.groups else "none found"
    return [
        Raw(
            group="new topics",
            name="new topics",
            method="spatial scan in the space of words",
            p=search.p,
            effect=float(largest),
            effect_name="reviews",
            least_effect=0.0,
            seen=seen,
        )
    ]


def _estimate(watched: Watched, answers: _Answers) -> estimated_accuracy.Estimate | None:
    labels = watched.classifier.labels
    reference = watched.reference.facts
    if answers.confidence is None:
        reference = reference.model_copy(update={"confidence": None})
    given = estimated_accuracy.answers_of(answers.labels, answers.confidence, labels)
    return estimated_accuracy.estimate(reference, given, labels)


def _doubts(tests: Sequence[Test]) -> list[str]:
    """Why an estimate without labels cannot be trusted."""
    reasons = {
        "text within labels": "texts of the same label changed",
        "new topics": "there are new topics",
        "language": "the languages changed",
    }
    return [reasons[test.group] for test in tests if test.is_alarm and test.group in reasons]


def _report(
    watched: Watched,
    new: NewReviews,
    answers: _Answers,
    search: Search | None,
    outcome: estimated_accuracy.Estimate | None,
    tests: Sequence[Test],
    notes: Sequence[str],
    *,
    with_texts: bool,
) -> Monitoring:
    facts, days = watched.reference.facts, sorted(day for day in new.dates if day is not None)
    is_topic_alarm = any(test.group == "new topics" and test.is_alarm for test in tests)
    groups = search.groups if search and is_topic_alarm else ()
    has_confidence = answers.confidence is not None
    verdict: Literal["calm", "alarm"] = "alarm" if any(test.is_alarm for test in tests) else "calm"
    return Monitoring(
        verdict=verdict,
        name=watched.name,
        model_version=watched.version,
        model=watched.classifier.model,
        file=new.path.name,
        file_sha256=new.sha256,
        reviews=new.total,
        compared=len(new.texts),
        reference_reviews=len(facts.labels),
        first_date=days[0].isoformat() if days else None,
        last_date=days[-1].isoformat() if days else None,
        error_rate=ALPHA,
        tests=tuple(tests),
        accuracy=estimated_accuracy.conclusion(outcome, facts, _doubts(tests), has_confidence=has_confidence),
        topics=tuple(_topic(group, new.texts, answers.labels, with_texts=with_texts) for group in groups),
        labels=_label_shares(facts.predicted, answers.labels, watched.classifier.labels),
        notes=tuple(filter(None, (*new.notes, *notes))),
    )


def _topic(group: Group, texts: Sequence[str], labels: Sequence[str | None], *, with_texts: bool) -> Topic:
    members = set(group.members)
    inside = [texts[place] for place in group.members]
    return Topic(
        size=len(inside),
        known=group.known,
        p=round(group.p, DIGITS),
        distance=round(group.distance, DIGITS),
        usual_distance=round(group.usual, DIGITS),
        words=typical_words(inside, [text for place, text in enumerate(texts) if place not in members]),
        examples=tuple(inside[:EXAMPLES]) if with_texts else (),
        labels=dict(Counter(labels[place] or NONE for place in group.members).most_common()),
    )


def _label_shares(
    reference: Sequence[str | None], new: Sequence[str | None], labels: Sequence[str]
) -> tuple[LabelShare, ...]:
    before, after = Counter(label or NONE for label in reference), Counter(label or NONE for label in new)
    return tuple(
        LabelShare(
            label=label,
            reference=round(before[label] / max(len(reference), 1), DIGITS),
            new=round(after[label] / max(len(new), 1), DIGITS),
            count=after[label],
        )
        for label in (*labels, NONE)
        if label != NONE or before[NONE] or after[NONE]
    )
