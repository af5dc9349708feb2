"""Rank the variants of a sweep: repeats with different seeds form one row, and each row is compared with the best.

No input or output. All scores are those of the validation split: the test split must not take part in a choice. The
interval of a row covers the choice of the validation reviews, its spread the choice of the seed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reviewtune.evaluation.metrics.significance import Interval, Verdict, accuracy_difference, mcnemar, verdict


@dataclass(frozen=True)
class Result:
    """One finished job.

    Args:
        run_id: its MLflow run.
        variant: the varied settings with their values.
        accuracy: in [0, 1], with its 95 % interval.
        macro_f1: mean of the labels' F1 scores, in [0, 1].
        correct: by review id, whether the review got its label.
        valid_sha256: hash of the validation split.
        model: the fine-tuned model's name.
        training_reviews: number of reviews that it was trained on.
        trained_tokens: in all epochs.
        cost_per_1k: USD per 1,000 reviews; 0 if the provider charges nothing.
        train_loss: at the end of the training.
        valid_loss: at the end of the training.
        cost_per_1k_at_gpt_4o_mini: USD that OpenAI would have charged for them.
    """

    run_id: str
    variant: Mapping[str, str]
    accuracy: Interval
    macro_f1: float
    correct: Mapping[str, bool]
    valid_sha256: str
    model: str
    training_reviews: int
    trained_tokens: int
    cost_per_1k: float | None
    train_loss: float | None
    valid_loss: float | None
    cost_per_1k_at_gpt_4o_mini: float | None = None


@dataclass(frozen=True)
class Row:
    """One variant: its jobs, which differ only in seeds, and how far it is behind the best."""

    rank: int
    variant: Mapping[str, str]
    results: tuple[Result, ...]  # the best first
    accuracy: Interval  # the mean over the jobs, with its 95 % interval
    spread: float | None  # standard deviation over the jobs; None for a single job
    behind: Interval | None  # this minus the best; None for the best, and for different reviews
    verdict: Verdict | None

    @property
    def cost_per_1k(self) -> float | None:
        return _mean_of_known([result.cost_per_1k for result in self.results])

    @property
    def cost_per_1k_at_gpt_4o_mini(self) -> float | None:
        return _mean_of_known([result.cost_per_1k_at_gpt_4o_mini for result in self.results])

    def mean(self, name: str) -> float:
        """Mean over the jobs of a numeric field of `Result`; nan if a job lacks it."""
        values = [getattr(result, name) for result in self.results]
        return float(np.mean([math.nan if value is None else value for value in values]))


def are_free(rows: Sequence[Row]) -> bool:
    """Whether no variant costs anything; costs are then compared at gpt-4o-mini's prices."""
    return not any(row.cost_per_1k for row in rows)


def rank(results: Sequence[Result], *, seed: int, resamples: int) -> list[Row]:
    """Order the variants by mean accuracy, then by trained tokens, then by name.

    Args:
        results: the finished jobs, in any order.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Returns:
        One row per variant, best first.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Result]] = {}
    for result in results:
        groups.setdefault(tuple(without_seeds(result.variant).items()), []).append(result)
    rows = [_row(dict(variant), _best_first(group), seed, resamples) for variant, group in groups.items()]
    rows.sort(key=lambda row: (-row.accuracy.value, row.mean("trained_tokens"), str(row.variant)))
    return [_compared(rows[0], row, number, seed, resamples) for number, row in enumerate(rows, start=1)]


def _best_first(results: Sequence[Result]) -> tuple[Result, ...]:
    """Repeats by accuracy, then by validation loss."""

    def order(result: Result) -> tuple[float, float, str]:
        loss = math.inf if result.valid_loss is None else result.valid_loss
        return -result.accuracy.value, loss, str(result.variant)

    return tuple(sorted(results, key=order))


def without_seeds(variant: Mapping[str, str]) -> dict[str, str]:
    """The settings that all repeats of a variant share."""
    return {name: value for name, value in variant.items() if name.rpartition(".")[2] != "seed"}


def _row(variant: Mapping[str, str], results: tuple[Result, ...], seed: int, resamples: int) -> Row:
    if len(results) == 1:
        return Row(0, variant, results, results[0].accuracy, None, None, None)
    accuracies = [result.accuracy.value for result in results]
    mean, same_reviews = float(np.mean(accuracies)), len({result.valid_sha256 for result in results}) == 1
    shares = _shares(results) if same_reviews else np.array(accuracies)
    return Row(0, variant, results, _bootstrap(shares, mean, seed, resamples), _spread(accuracies), None, None)


def _compared(best: Row, row: Row, number: int, seed: int, resamples: int) -> Row:
    behind, outcome = None, None
    if row is not best and len({result.valid_sha256 for result in (*best.results, *row.results)}) == 1:
        behind, outcome = _difference(row.results, best.results, seed, resamples)
    return Row(number, row.variant, row.results, row.accuracy, row.spread, behind, outcome)


def _difference(
    these: tuple[Result, ...], best: tuple[Result, ...], seed: int, resamples: int
) -> tuple[Interval, Verdict]:
    """Paired by review. Two single jobs are compared as arms are; with repeats, each review counts with its mean."""
    if len(these) == len(best) == 1:
        ids = list(best[0].correct)
        this, reference = ([result.correct[key] for key in ids] for result in (these[0], best[0]))
        difference = accuracy_difference(this, reference, seed=seed, resamples=resamples)
        return difference, verdict(difference, mcnemar(this, reference).p)
    ids = list(best[0].correct)
    gaps = _shares(these, ids) - _shares(best, ids)
    difference = _bootstrap(gaps, float(gaps.mean()), seed, resamples)
    return difference, verdict(difference, _seeds_p(these, best))


def _seeds_p(these: Sequence[Result], best: Sequence[Result]) -> float:
    """P-value of Welch's t-test over the seeds: a gap that other seeds could close does not count.

    0 if a side has one job or both sides' jobs never differ; then only the interval over the reviews decides.

    Source:
        Welch, Biometrika 34 (1947) 28-35.
    """
    from scipy.stats import ttest_ind

    left, right = ([result.accuracy.value for result in side] for side in (these, best))
    if min(len(left), len(right)) < 2 or np.ptp(left) == np.ptp(right) == 0:
        return 0.0
    return float(ttest_ind(left, right, equal_var=False).pvalue)


def _shares(results: Sequence[Result], ids: Sequence[str] | None = None) -> np.ndarray:
    """Per review, the share of the jobs that got it right, shape [len(ids)]."""
    ids = ids if ids is not None else list(results[0].correct)
    right = np.array([[result.correct[key] for key in ids] for result in results], dtype=float)
    shares: np.ndarray = right.mean(axis=0)
    return shares


def _bootstrap(values: np.ndarray, mean: float, seed: int, resamples: int) -> Interval:
    """95 % percentile interval of the mean; of width 0 if all values are equal.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    from scipy.stats import bootstrap

    if np.ptp(values) == 0:
        return Interval(mean, mean, mean)
    interval = bootstrap(
        (values,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(seed), batch=500
    ).confidence_interval
    return Interval(mean, float(interval.low), float(interval.high))


def _mean_of_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1))
