"""The variants of a sweep in order: repeats with other seeds become one row, each is held against the best one.

Pure: results in, rows out. A row's interval says how far another test set could move the number, its spread how far
another seed does.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reviewtune.evaluation.metrics.significance import Interval, Verdict, accuracy_difference, mcnemar, verdict

RESAMPLES = 10_000


@dataclass(frozen=True)
class Result:
    """One finished job. `correct` maps a review's id to whether it got its label; costs are USD for 1,000 reviews."""

    run_id: str
    variant: Mapping[str, str]
    accuracy: Interval
    f1: float
    correct: Mapping[str, bool]
    test_sha256: str
    model: str
    training_reviews: int
    trained_tokens: int
    cost_per_1k: float | None
    train_loss: float | None
    valid_loss: float | None


@dataclass(frozen=True)
class Row:
    """One variant: its jobs, which differ in nothing but seeds, and how far it is behind the best."""

    rank: int
    variant: Mapping[str, str]
    results: tuple[Result, ...]
    accuracy: Interval  # the mean over the jobs, with its 95 % interval
    spread: float | None  # standard deviation between the jobs; None for a single one
    behind: Interval | None  # this minus the best; None for the best, and where the test reviews are others
    verdict: Verdict | None

    @property
    def f1(self) -> float:
        return float(np.mean([result.f1 for result in self.results]))

    @property
    def cost_per_1k(self) -> float | None:
        costs = [result.cost_per_1k for result in self.results if result.cost_per_1k is not None]
        return float(np.mean(costs)) if costs else None

    def mean(self, name: str) -> float:
        """Mean over the jobs of a number of `Result`; nan where one lacks it."""
        values = [getattr(result, name) for result in self.results]
        return float(np.mean([math.nan if value is None else value for value in values]))


def rank(results: Sequence[Result], *, seed: int, resamples: int = RESAMPLES) -> list[Row]:
    """Best mean accuracy first, then the cheaper training, then by name."""
    groups: dict[tuple[tuple[str, str], ...], list[Result]] = {}
    for result in results:
        groups.setdefault(tuple(without_seeds(result.variant).items()), []).append(result)
    rows = [_row(dict(variant), tuple(group), seed, resamples) for variant, group in groups.items()]
    rows.sort(key=lambda row: (-row.accuracy.value, row.mean("trained_tokens"), str(row.variant)))
    return [_held_against(rows[0], row, number, seed, resamples) for number, row in enumerate(rows, start=1)]


def without_seeds(variant: Mapping[str, str]) -> dict[str, str]:
    """What a repeat has in common with its first run."""
    return {name: value for name, value in variant.items() if name.rpartition(".")[2] != "seed"}


def _row(variant: Mapping[str, str], results: tuple[Result, ...], seed: int, resamples: int) -> Row:
    if len(results) == 1:
        return Row(0, variant, results, results[0].accuracy, None, None, None)
    accuracies = [result.accuracy.value for result in results]
    mean, same_test = float(np.mean(accuracies)), len({result.test_sha256 for result in results}) == 1
    shares = _shares(results) if same_test else np.array(accuracies)
    return Row(0, variant, results, _bootstrap(shares, mean, seed, resamples), _spread(accuracies), None, None)


def _held_against(best: Row, row: Row, number: int, seed: int, resamples: int) -> Row:
    behind, said = None, None
    if row is not best and len({result.test_sha256 for result in (*best.results, *row.results)}) == 1:
        behind, said = _difference(row.results, best.results, seed, resamples)
    return Row(number, row.variant, row.results, row.accuracy, row.spread, behind, said)


def _difference(
    these: tuple[Result, ...], best: tuple[Result, ...], seed: int, resamples: int
) -> tuple[Interval, Verdict]:
    """Paired, review by review. Single jobs as everywhere else; of several, each review counts by its mean."""
    if len(these) == len(best) == 1:
        ids = list(best[0].correct)
        mine, theirs = ([result.correct[key] for key in ids] for result in (these[0], best[0]))
        difference = accuracy_difference(mine, theirs, seed=seed, resamples=resamples)
        return difference, verdict(difference, mcnemar(mine, theirs).p)
    ids = list(best[0].correct)
    gaps = _shares(these, ids) - _shares(best, ids)
    difference = _bootstrap(gaps, float(gaps.mean()), seed, resamples)
    return difference, verdict(difference, _seeds_p(these, best))


def _seeds_p(these: Sequence[Result], best: Sequence[Result]) -> float:
    """Welch's t-test over the seeds (Biometrika 34 (1947) 28-35): a gap that other seeds could close is none.

    0 where a side has one job or its jobs never differ: then the interval over the reviews alone decides.
    """
    from scipy.stats import ttest_ind

    one, other = ([result.accuracy.value for result in side] for side in (these, best))
    if min(len(one), len(other)) < 2 or np.ptp(one) == np.ptp(other) == 0:
        return 0.0
    return float(ttest_ind(one, other, equal_var=False).pvalue)


def _shares(results: Sequence[Result], ids: Sequence[str] | None = None) -> np.ndarray:
    """For each review the share of the jobs that got it right."""
    ids = ids if ids is not None else list(results[0].correct)
    right = np.array([[result.correct[key] for key in ids] for result in results], dtype=float)
    shares: np.ndarray = right.mean(axis=0)
    return shares


def _bootstrap(values: np.ndarray, mean: float, seed: int, resamples: int) -> Interval:
    """Percentile interval of the mean (Efron and Tibshirani, 1993, chapter 13); empty where nothing varies."""
    from scipy.stats import bootstrap

    if np.ptp(values) == 0:
        return Interval(mean, mean, mean)
    found = bootstrap(
        (values,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(seed), batch=500
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high))


def _spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1))
