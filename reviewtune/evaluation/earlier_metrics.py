"""Scores of an earlier evaluation, from our own metrics files or older ones, beside new ones.

Older tools wrote `precision` or `precision_weighted`, shares or percentages, at the top or under "metrics". Two figures
from different test sets are no improvement: they are refused unless the user asks for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from reviewtune.core.atomic_files import read_json
from reviewtune.errors import DataError

SCORES = ("accuracy", "precision", "recall", "f1")
SPELLINGS = {
    "accuracy": ("accuracy", "accuracy_score"),
    "precision": ("precision", "precision_weighted", "weighted_precision"),
    "recall": ("recall", "recall_weighted", "weighted_recall"),
    "f1": ("f1", "f1_weighted", "weighted_f1", "f1_score", "f1_score_weighted"),
}
SIZES = (
    "n", "total", "n_samples", "num_samples", "total_samples", "n_examples", "num_examples", "total_examples",
    "n_reviews", "total_reviews", "sample_size", "test_size",
)  # fmt: skip
NESTED = ("metrics", "overall", "overall_metrics", "results")


class Row(NamedTuple):
    """One line of the table."""

    metric: str
    old: str
    new: str
    improvement: str


@dataclass(frozen=True)
class Past:
    """Shares in [0, 1]. `n` and `test_sha256` are None where the file does not say them."""

    path: Path
    scores: Mapping[str, float]
    n: int | None
    test_sha256: str | None


def read_past(path: Path) -> Past:
    """An earlier evaluation's scores.

    Raises:
        DataError: no such file, no JSON object, or a score is missing or no number between 0 and 1 (or 100).
    """
    try:
        content = read_json(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; --compare takes the metrics.json of an earlier evaluation") from error
    except ValueError as error:
        raise DataError(f"{path}: no JSON ({error}); --compare takes the metrics.json of an earlier one") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: wants a JSON object with {', '.join(SCORES)}")
    inner: dict[str, Any] = next((content[name] for name in NESTED if isinstance(content.get(name), dict)), {})
    found = {**content, **inner}
    scores = {name: _share(path, name, found) for name in SCORES}
    size = next((found[name] for name in SIZES if isinstance(found.get(name), int)), None)
    digest = found.get("test_sha256")
    return Past(path, scores, size, digest if isinstance(digest, str) else None)


def refuse_other_test_set(past: Past, *, n: int, test_sha256: str, file: Path) -> str | None:
    """None when both were measured on the same file; else a warning where that is unknown.

    Raises:
        DataError: they were not.
    """
    what = None
    if past.test_sha256 is not None and past.test_sha256 != test_sha256:
        what = f"another test set (sha256 {past.test_sha256[:12]}..., {file} has {test_sha256[:12]}...)"
    elif past.n is not None and past.n != n:
        what = f"{past.n} reviews, {file} has {n}"
    if what:
        raise DataError(
            f"{past.path} was measured on {what}: the difference would say nothing about the model; evaluate both on "
            "the same file, or say --other-test-set to see the figures side by side all the same"
        )
    if past.test_sha256 is None:
        return f"{past.path} does not say what it was measured on: the improvement holds only if that was {file}"
    return None


def table(past: Past, metrics: Mapping[str, Any]) -> list[Row]:
    """Accuracy, precision, recall and F1: old, new, and the difference in points."""
    rows = []
    for name in SCORES:
        old, new = past.scores[name], _number(metrics[name])
        change = f"{100 * (new - old):+.1f} points".replace("-", "−")
        rows.append(Row(name.capitalize(), f"{100 * old:.1f} %", f"{100 * new:.1f} %", change))
    return rows


def _share(path: Path, name: str, found: Mapping[str, Any]) -> float:
    spelt = next((key for key in SPELLINGS[name] if key in found), None)
    if spelt is None:
        raise DataError(f"{path}: no {' or '.join(SPELLINGS[name][:2])}; it has {', '.join(found) or 'nothing'}")
    try:
        value = _number(found[spelt])
    except (TypeError, ValueError, KeyError) as error:
        raise DataError(f"{path}: {spelt} is {found[spelt]!r}, not a number") from error
    value = value / 100 if 1 < value <= 100 else value
    if not 0 <= value <= 1:
        raise DataError(f"{path}: {spelt} is {value:g}, not a share between 0 and 1 or a percentage")
    return value


def _number(value: Any) -> float:  # noqa: ANN401 - a number, or ours with its interval
    return float(value["value"] if isinstance(value, dict) else value)
