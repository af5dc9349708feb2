"""Compare the new reviews with the reference in one property at a time: labels, confidence, length, language.

Sources: the likelihood-ratio G-test (Sokal and Rohlf, Biometry, chapter 17) with Cramer's V as its effect; where cells
are small, its p-value comes from tables drawn with the same margins (Patefield, Applied Statistics 30 (1981) 91-97).
The two-sample Kolmogorov-Smirnov test with its statistic D as effect. Fisher's exact test for one share.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from reviewtune.core.formatting import percent
from reviewtune.monitoring.alarms import Raw

LEAST_V, LEAST_D, LEAST_SHARE = 0.1, 0.1, 0.02
"""Effects below are too small to act on: Cohen calls 0.1 small for V; two reviews of a hundred for a share."""
SMALL_CELL = 5  # an expected count below makes the chi-squared approximation doubtful
TABLES = 9_999  # drawn then
SEED = 0
OTHER = "other"
COMMON = 0.02  # share of the reference from which on a language is named


def label_mix(reference: Sequence[str | None], new: Sequence[str | None]) -> Raw | None:
    """The mix of the model's labels; None if one side has none."""
    old_labels, new_labels = [*filter(None, reference)], [*filter(None, new)]
    if not old_labels or not new_labels:
        return None
    return _mix("label mix", old_labels, new_labels)


def label_shares(reference: Sequence[str | None], new: Sequence[str | None], labels: Sequence[str]) -> list[Raw]:
    """The share of each label, one test each: a label that surges or that the model no longer gives."""
    before, after = Counter(filter(None, reference)), Counter(filter(None, new))
    if not before or not after:
        return []
    n, m = before.total(), after.total()
    return [share_change("label share", name, (before[name], n), (after[name], m)) for name in labels]


def unusable_answers(reference: Sequence[str | None], new: Sequence[str | None]) -> Raw:
    """The share of reviews for which the model names no label."""
    before, after = (sum(label is None for label in side) for side in (reference, new))
    return share_change("unusable answers", "unusable", (before, len(reference)), (after, len(new)))


def languages(reference: Sequence[str], new: Sequence[str]) -> Raw:
    """The mix of detected languages; those that are rare in the reference count together."""
    counts = Counter(reference)
    known = {language for language, count in counts.items() if count >= COMMON * len(reference)}
    old_names, new_names = ([name if name in known else OTHER for name in side] for side in (reference, new))
    foreign = Counter(name for name in new if name not in known)
    more = f"; not in the reference: {', '.join(f'{k} {n}' for k, n in foreign.most_common(3))}" if foreign else ""
    return _mix("language", old_names, new_names, more)


def confidence(reference: Sequence[float], new: Sequence[float]) -> Raw:
    """The distribution of the calibrated confidence."""
    means = f"mean {np.mean(reference):.2f} before, {np.mean(new):.2f} now"
    return _ks("confidence", reference, new, means)


def lengths(reference: Sequence[int], new: Sequence[int]) -> Raw:
    """The distribution of the number of characters."""
    medians = f"median {np.median(reference):.0f} characters before, {np.median(new):.0f} now"
    return _ks("length", reference, new, medians)


def g_test(reference: Sequence[str], new: Sequence[str]) -> tuple[float, float]:
    """P-value of the G-test that both have the same mix, and Cramer's V.

    Args:
        reference, new: the categories, one per review; neither is empty.
    """
    from scipy.stats import chi2_contingency
    from scipy.stats.contingency import expected_freq

    names = sorted({*reference, *new})
    if len(names) < 2:
        return 1.0, 0.0
    table = np.array([[Counter(side)[name] for name in names] for side in (reference, new)])
    expected = expected_freq(table)
    chi_squared = float(((table - expected) ** 2 / expected).sum())
    effect = float(np.sqrt(chi_squared / table.sum()))  # two rows: V = phi
    if expected.min() >= SMALL_CELL:
        return float(chi2_contingency(table, lambda_="log-likelihood").pvalue), effect
    return _drawn_p(table), effect


def _drawn_p(table: np.ndarray) -> float:
    from scipy.stats import random_table

    drawn = random_table(table.sum(axis=1), table.sum(axis=0), seed=SEED).rvs(TABLES)
    observed, others = _log_sum(table[None])[0], _log_sum(drawn)
    return float((1 + (others >= observed - 1e-9).sum()) / (TABLES + 1))


def _log_sum(tables: np.ndarray) -> np.ndarray:
    """What of G depends on the table when its margins are given: the sum of n log n."""
    counts = np.asarray(tables, dtype=float)
    return np.asarray(np.where(counts > 0, counts * np.log(np.maximum(counts, 1)), 0).sum(axis=(1, 2)))


def _mix(group: str, reference: Sequence[str], new: Sequence[str], more: str = "") -> Raw:
    p, effect = g_test(reference, new)
    return Raw(
        group=group,
        name=group,
        method="G-test",
        p=p,
        effect=effect,
        effect_name="Cramer's V",
        least_effect=LEAST_V,
        seen=f"largest change: {_largest_change(reference, new)}{more}",
    )


def _ks(group: str, reference: Sequence[float], new: Sequence[float], seen: str) -> Raw:
    from scipy.stats import ks_2samp

    result = ks_2samp(list(reference), list(new))
    return Raw(
        group=group,
        name=group,
        method="Kolmogorov-Smirnov",
        p=float(result.pvalue),
        effect=float(result.statistic),
        effect_name="D",
        least_effect=LEAST_D,
        seen=seen,
    )


def share_change(group: str, name: str, before: tuple[int, int], after: tuple[int, int]) -> Raw:
    """Fisher's exact two-sided test of two shares, each as (count, number of reviews)."""
    from scipy.stats import fisher_exact

    (old, n), (now, m) = before, after
    p = float(fisher_exact(np.array([[old, n - old], [now, m - now]])).pvalue) if n and m else 1.0
    first, second = old / max(n, 1), now / max(m, 1)
    return Raw(
        group=group,
        name=name,
        method="Fisher's exact test",
        p=p,
        effect=abs(second - first),
        effect_name="difference of shares",
        least_effect=LEAST_SHARE,
        seen=f"{name}: {percent(first)} before, {percent(second)} now",
    )


def _largest_change(reference: Sequence[str], new: Sequence[str]) -> str:
    before, after = Counter(reference), Counter(new)
    changes = {name: after[name] / len(new) - before[name] / len(reference) for name in sorted({*before, *after})}
    name = max(changes, key=lambda key: abs(changes[key]))
    return f"{name} {percent(before[name] / len(reference))} before, {percent(after[name] / len(new))} now"
