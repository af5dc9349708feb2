"""Scores of an earlier evaluation, from our own metrics.json or from other tools' files, compared with new ones.

Other tools write `precision` or `precision_weighted`, shares or percentages, at the top level or under "metrics". A
difference between two test sets is not an improvement of the model, so it is refused unless the user asks for it, or
the reviews that both have can be compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reviewtune.core.atomic_files import read_json
from reviewtune.core.formatting import counted, percent, points
from reviewtune.errors import DataError
from reviewtune.evaluation.metrics_file import ArmMetrics

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


class Change(NamedTuple):
    """One row of the table of changes, as text."""

    metric: str
    old: str
    new: str
    improvement: str


@dataclass(frozen=True)
class EarlierMetrics:
    """Scores of an earlier evaluation.

    Args:
        path: the file.
        scores: shares in [0, 1], by the names of SCORES.
        n: number of test reviews; None if the file does not say.
        test_sha256: SHA-256 of the test file; None if the file does not say.
    """

    path: Path
    scores: Mapping[str, float]
    n: int | None
    test_sha256: str | None


def read_earlier(path: Path) -> EarlierMetrics:
    """Read an earlier evaluation's scores.

    Raises:
        DataError: there is no such file, it is not a JSON object, or a score is missing or not a number in [0, 100].
    """
    content = _json_object(path)
    nested = next((part for name in NESTED if isinstance(part := content.get(name), dict)), {})
    values = {**content, **nested}
    size = next((value for name in SIZES if isinstance(value := values.get(name), int)), None)
    digest = values.get("test_sha256")
    scores = {name: _share(path, name, values) for name in SCORES}
    return EarlierMetrics(path, scores, size, digest if isinstance(digest, str) else None)


def refuse_other_test_set(earlier: EarlierMetrics, *, n: int, test_sha256: str, file: Path) -> str | None:
    """Refuse to compare with scores from another test set.

    Args:
        earlier: the earlier scores.
        n: number of reviews that are scored now.
        test_sha256: SHA-256 of its file.
        file: its path, for messages.

    Returns:
        A warning if the file does not say what it was measured on; otherwise None.

    Raises:
        DataError: it was measured on another test set.
    """
    if other := other_test_set(earlier, n=n, test_sha256=test_sha256, file=file):
        raise DataError(
            f"{earlier.path} was measured on {other}: the difference would say nothing about the model; evaluate both "
            "on the same file, or use --other-test-set to compare them anyway"
        )
    if earlier.test_sha256 is None:
        return f"{earlier.path} does not say what it was measured on: the improvement holds only if that was {file}"
    return None


def other_test_set(earlier: EarlierMetrics, *, n: int, test_sha256: str, file: Path) -> str:
    """What the earlier scores were measured on, if it is not this test set; arguments as of `refuse_other_test_set`."""
    if earlier.test_sha256 is not None and earlier.test_sha256 != test_sha256:
        return f"another test set (sha256 {earlier.test_sha256[:12]}..., {file} has {test_sha256[:12]}...)"
    if earlier.n is not None and earlier.n != n:
        return f"{counted(earlier.n, 'review')}, now it would be {n} of {file}"
    return ""


def changes(earlier: EarlierMetrics, metrics: ArmMetrics) -> list[Change]:
    """Accuracy, precision, recall and F1: old, new, and the difference in percentage points."""
    new = {
        "accuracy": metrics.accuracy.value,
        "precision": metrics.precision,
        "recall": metrics.recall,
        "f1": metrics.f1,
    }
    return changes_between(earlier.scores, new)


def changes_between(old: Mapping[str, float], new: Mapping[str, float]) -> list[Change]:
    """The same of two evaluations' shares in [0, 1] by the names of SCORES."""
    return [_change(name, old[name], new[name]) for name in SCORES]


def _change(name: str, old: float, new: float) -> Change:
    return Change(name.capitalize(), percent(old), percent(new), f"{points(new - old)} points")


def _json_object(path: Path) -> dict[str, object]:
    try:
        content = read_json(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; --compare takes the metrics.json of an earlier evaluation") from error
    except ValueError as error:
        raise DataError(
            f"{path}: not valid JSON ({error}); --compare takes the metrics.json of an earlier evaluation"
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a JSON object; --compare takes one with {', '.join(SCORES)}")
    return content


def _share(path: Path, name: str, values: Mapping[str, object]) -> float:
    key = next((key for key in SPELLINGS[name] if key in values), None)
    if key is None:
        raise DataError(f"{path}: no {' or '.join(SPELLINGS[name][:2])}; it has {', '.join(values) or 'nothing'}")
    value = _number(path, key, values[key])
    share = value / 100 if 1 < value <= 100 else value
    if not 0 <= share <= 1:
        raise DataError(f"{path}: {key} is {share:g}, not a share between 0 and 1 or a percentage")
    return share


def _number(path: Path, key: str, value: object) -> float:
    """The number itself, or that of one of our own scores with its interval."""
    number = value.get("value") if isinstance(value, dict) else value
    try:
        if isinstance(number, int | float | str):
            return float(number)
    except (ValueError, OverflowError):
        pass
    raise DataError(f"{path}: {key} is {value!r}, not a number")
