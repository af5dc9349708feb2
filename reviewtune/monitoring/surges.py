"""Surges of a label over time: in one period, a label is more frequent than in all others of the file.

Every label in every period is one test (Fisher, one-sided); alarms.py corrects for their number with Holm's procedure.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta

from reviewtune.core.formatting import percent
from reviewtune.monitoring.alarms import Raw

PERIODS = {"day": 1, "week": 7, "four weeks": 28}
TYPICAL = 20  # reviews in the median period; the shortest period with as many is used
LEAST_PERIODS, MOST_PERIODS = 3, 60
LEAST_CHANGE = 0.05


def surges(labels: Sequence[str | None], dates: Sequence[date | None]) -> tuple[list[Raw], str]:
    """The tests, and a note: which periods, or why there are none.

    Args:
        labels: the model's label of each review; None: no usable answer.
        dates: of each review; None: not known.
    """
    dated = [(day, label) for day, label in zip(dates, labels, strict=True) if day is not None and label is not None]
    if not dated:
        return [], ""
    for name, days in PERIODS.items():
        periods = _periods(dated, days)
        sizes = sorted(len(members) for members in periods.values())
        if LEAST_PERIODS <= len(periods) <= MOST_PERIODS and sizes[len(sizes) // 2] >= TYPICAL:
            return _tests(periods, len(dated)), f"surges were looked for by {name}, {len(periods)} periods"
    return [], (
        f"surges were not looked for: they need {LEAST_PERIODS} to {MOST_PERIODS} days, weeks or periods of four weeks "
        f"with about {TYPICAL} reviews each"
    )


def _periods(dated: Sequence[tuple[date, str]], days: int) -> dict[date, list[str]]:
    """The labels by first day of the period; the periods end with the last date."""
    last = max(day for day, _ in dated)
    periods: dict[date, list[str]] = {}
    for day, label in dated:
        start = last - timedelta(days=((last - day).days // days + 1) * days - 1)
        periods.setdefault(start, []).append(label)
    return dict(sorted(periods.items()))


def _tests(periods: dict[date, list[str]], n: int) -> list[Raw]:
    import numpy as np
    from scipy.stats import fisher_exact

    totals = Counter(label for members in periods.values() for label in members)
    tests = []
    for start, members in periods.items():
        inside = Counter(members)
        for label in sorted(totals):
            count, size, rest = inside[label], len(members), n - len(members)
            others = totals[label] - count
            table = np.array([[count, size - count], [others, rest - others]])
            p = float(fisher_exact(table, alternative="greater").pvalue)
            share, usual = count / size, others / rest if rest else 0.0
            tests.append(
                Raw(
                    group="surges",
                    name=f"{label} from {start}",
                    method="Fisher's exact test, one-sided",
                    p=p,
                    effect=max(0.0, share - usual),
                    effect_name="difference of shares",
                    least_effect=LEAST_CHANGE,
                    seen=f"{label}: {percent(share)} of {size} reviews from {start}, {percent(usual)} at other times",
                )
            )
    return tests
