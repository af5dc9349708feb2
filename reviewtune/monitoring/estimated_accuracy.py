"""Estimate the accuracy on reviews without labels, from calibrated confidence, corrected for a changed label mix.

Calibrated confidence is the chance that a label is right, so its mean is the expected accuracy (confidence-based
performance estimation, as NannyML names it). If labels became more or less frequent, that chance changes too. The new
mix is found from the model's own labels and its confusion of the test reviews (black-box shift estimation: Lipton,
Wang and Smola, ICML 2018), here by maximum likelihood, so that no share is negative (Saerens, Latinne and Decaestecker,
Neural Computation 14 (2002) 21-41). What the confidence got wrong on the test reviews, weighted with the new mix, is
added (the difference estimator of prediction-powered inference: Angelopoulos et al., Science 382 (2023) 669-674).

All this holds while reviews of one label look as they did. Where texts changed, nobody can know without labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from reviewtune.core.formatting import percent
from reviewtune.deployment.reference import Reference
from reviewtune.evaluation.metrics.significance import DIGITS, Interval, proportion
from reviewtune.monitoring.alarms import Raw
from reviewtune.monitoring.report_file import EstimatedAccuracy

RESAMPLES, STEPS, SEED = 500, 60, 0
FEWEST = 30  # reviews on each side
LEAST_DROP = 0.02
CBPE, BBSE = "calibrated confidence, corrected for the label mix", "the confusion of the test reviews and the label mix"


@dataclass(frozen=True)
class Answers:
    """The model's answers to reviews.

    Args:
        predicted: position of each label among the labels; the number of labels: no usable answer. [n]
        confidence: calibrated, 0 without a usable answer; all 0 if the model has none. [n]
    """

    predicted: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True)
class Estimate:
    """The outcome: the estimate with its interval, the label mix, and the test that the accuracy is lower."""

    accuracy: Interval
    label_mix: dict[str, float]
    drop: Raw


def answers_of(predicted: Sequence[str | None], confidence: Sequence[float] | None, labels: Sequence[str]) -> Answers:
    """The answers with labels as positions."""
    places = {label: place for place, label in enumerate(labels)}
    scores = np.zeros(len(predicted)) if confidence is None else np.asarray(confidence, dtype=float)
    return Answers(np.array([places.get(label or "", len(labels)) for label in predicted], dtype=int), scores)


def estimate(reference: Reference, new: Answers, labels: Sequence[str], *, seed: int = SEED) -> Estimate | None:
    """Estimate the accuracy on the new reviews; None if one side has fewer than FEWEST reviews.

    Args:
        reference: the answers to the test reviews, with their true labels.
        new: the answers to the new reviews.
        labels: all labels.
        seed: of the bootstrap.
    """
    if min(len(reference.labels), len(new.predicted)) < FEWEST:
        return None
    known = answers_of(reference.predicted, reference.confidence, labels)
    places = {label: place for place, label in enumerate(labels)}
    truth = np.array([places[label] for label in reference.labels])
    draw = np.random.default_rng(seed)
    n, m = len(truth), len(new.predicted)
    old_times = np.vstack([np.ones(n), draw.multinomial(n, np.full(n, 1 / n), RESAMPLES)])
    new_times = np.vstack([np.ones(m), draw.multinomial(m, np.full(m, 1 / m), RESAMPLES)])
    values, mixes = _estimates(known, truth, new, len(labels), old_times, new_times)
    before = old_times @ (known.predicted == truth) / n
    mix = {label: round(float(share), DIGITS) for label, share in zip(labels, mixes[0], strict=True)}
    return Estimate(_interval(values, m, draw), mix, _drop(values - before, float(values[0]), float(before[0])))


def conclusion(
    outcome: Estimate | None, reference: Reference, why_not: Sequence[str], *, has_confidence: bool
) -> EstimatedAccuracy:
    """What the report says; `why_not` are reasons for which the estimate cannot be trusted."""
    right = sum(label == answer for label, answer in zip(reference.labels, reference.predicted, strict=True))
    before = proportion(right, len(reference.labels)).rounded() if reference.labels else None
    if outcome is None:
        why = f"fewer than {FEWEST} reviews on one side"
        return EstimatedAccuracy(
            status="not known", why=why, accuracy=None, reference=before, method="none", label_mix={}
        )
    return EstimatedAccuracy(
        status="not reliable" if why_not else "estimated",
        why="; ".join(why_not),
        accuracy=outcome.accuracy.rounded(),
        reference=before,
        method=CBPE if has_confidence else BBSE,
        label_mix=outcome.label_mix,
    )


def _estimates(
    known: Answers, truth: np.ndarray, new: Answers, labels: int, old_times: np.ndarray, new_times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The estimate of every resample [resamples], and the label mix [resamples, labels].

    Args:
        known, truth: answers and true labels of the test reviews.
        new: answers to the new reviews.
        labels: number of labels.
        old_times, new_times: how often each review is in each resample, [resamples, reviews].
    """
    confusion = _confusion(known.predicted, truth, labels, old_times)
    prior = confusion.sum(axis=1) / confusion.sum(axis=(1, 2))[:, None]
    seen = new_times @ np.eye(labels + 1)[new.predicted] / new_times.sum(axis=1, keepdims=True)
    mix = _label_mix(confusion, prior, seen)
    weight = np.where(prior > 0, mix / np.maximum(prior, 1e-12), 0.0)
    others = _weight_of_others(confusion, prior, weight)
    estimated = _mean(_shifted(new, weight, others, labels), new_times)
    old_weight = weight[:, truth] * old_times
    residual = (known.predicted == truth) - _shifted(known, weight, others, labels)
    total = np.maximum(old_weight.sum(axis=1), 1e-12)
    return np.clip(estimated + (old_weight * residual).sum(axis=1) / total, 0.0, 1.0), mix


def _confusion(predicted: np.ndarray, truth: np.ndarray, labels: int, times: np.ndarray) -> np.ndarray:
    """Counts [resamples, answers, true labels]; the last answer is the unusable one."""
    from scipy.sparse import csr_array

    # One cell per review: a dense table would grow with the fourth power of the number of labels.
    reviews = np.arange(len(truth))
    cells = csr_array((np.ones(len(truth)), (predicted * labels + truth, reviews)), ((labels + 1) * labels, len(truth)))
    return np.asarray((cells @ times.T).T.reshape(len(times), labels + 1, labels))


def _label_mix(confusion: np.ndarray, prior: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Shares of the true labels [resamples, labels] that make the seen answers most likely, by expectation steps."""
    smooth = confusion + 1.0 / confusion.shape[1]
    given = smooth / smooth.sum(axis=1, keepdims=True)  # of each answer, given the true label
    mix = prior.copy()
    for _ in range(STEPS):
        expected = np.maximum(np.einsum("rat,rt->ra", given, mix), 1e-12)
        mix = mix * np.einsum("rat,ra->rt", given, seen / expected)
    return np.asarray(mix / mix.sum(axis=1, keepdims=True))


def _weight_of_others(confusion: np.ndarray, prior: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """By answer, the mean weight of the true label if the answer is wrong [resamples, answers]."""
    wrong = confusion + prior[:, None, :]
    labels = np.arange(confusion.shape[2])
    wrong[:, labels, labels] = 0.0
    share = wrong / np.maximum(wrong.sum(axis=2, keepdims=True), 1e-12)
    return np.asarray(np.einsum("rat,rt->ra", share, weight))


def _shifted(answers: Answers, weight: np.ndarray, others: np.ndarray, labels: int) -> np.ndarray:
    """Confidences under the new label mix, by Bayes' rule [resamples, reviews]."""
    padded = np.hstack([weight, np.zeros((len(weight), 1))])
    right = padded[:, answers.predicted] * answers.confidence
    wrong = others[:, answers.predicted] * (1.0 - answers.confidence)
    return np.asarray(right / np.maximum(right + wrong, 1e-12))


def _mean(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    return np.asarray((values * times).sum(axis=1) / times.sum(axis=1))


def _interval(values: np.ndarray, m: int, draw: Any) -> Interval:  # noqa: ANN401 - numpy's generator
    """Percentiles of the resamples, with the chance in m reviews of being right: the accuracy on these very reviews."""
    centre = float(values[0])
    spread = np.sqrt(centre * (1 - centre) / m)
    low, high = np.percentile(values[1:] + draw.normal(0.0, spread, len(values) - 1), [2.5, 97.5])
    return Interval(centre, max(0.0, min(float(low), centre)), min(1.0, max(float(high), centre)))


def _drop(differences: np.ndarray, now: float, before: float) -> Raw:
    """One-sided test that the accuracy is not lower than on the test reviews."""
    error = float(differences[1:].std())
    p = NormalDist().cdf(float(differences[0]) / error) if error > 0 else float(differences[0] >= 0)
    return Raw(
        group="estimated accuracy",
        name="estimated accuracy",
        method="bootstrap, one-sided",
        p=p,
        effect=max(0.0, before - now),
        effect_name="drop",
        least_effect=LEAST_DROP,
        seen=f"{percent(before)} on the test reviews, {percent(now)} estimated now",
    )
