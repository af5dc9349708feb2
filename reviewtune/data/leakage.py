"""Refuse leakage: reviews of a measurement, or near-duplicates of them, that the model was trained or prompted with."""

from collections.abc import Mapping, Sequence

import pandas as pd

from reviewtune.core.formatting import counted, listed
from reviewtune.data.splits import METHOD, alike
from reviewtune.errors import LeakError

SHOWN = 100  # a message of one line names this many reviews of a collection
ADVICE = "run `dvc repro`, or evaluate on reviews that the model has not seen"


def seen_rows(test: pd.DataFrame, known: Mapping[str, Sequence[str]], *, similarity: float) -> dict[str, list[int]]:
    """Find the reviews that a model knows.

    Args:
        test: the reviews that a model is measured on, with the column text.
        known: collections of texts by name, such as "the training file".
        similarity: texts at least this alike (`splits.METHOD`) are near-duplicates.

    Returns:
        For each collection with such reviews, their row positions in `test`, in ascending order.
    """
    texts = test["text"].tolist()
    rows = {
        name: sorted({pair.left for pair in alike(texts, list(others), similarity)}) if others else []
        for name, others in known.items()
    }
    return {name: positions for name, positions in rows.items() if positions}


def refuse_leak(
    test: pd.DataFrame,
    known: Mapping[str, Sequence[str]],
    *,
    similarity: float,
    split: str = "test",
    advice: str = ADVICE,
) -> None:
    """Refuse to measure a model on reviews that it knows.

    Args:
        test: the reviews that a model is measured on, with the columns review_id and text.
        known: as in `seen_rows`.
        similarity: as in `seen_rows`.
        split: the split that `test` holds, for the message.
        advice: what to do; ends the message.

    Raises:
        LeakError: naming the reviews of every collection that holds one.
    """
    seen = seen_rows(test, known, similarity=similarity)
    if not seen:
        return
    parts = [
        f"{len(rows)} in {name}: {listed(test['review_id'].iloc[rows].tolist(), shown=SHOWN)}"
        for name, rows in seen.items()
    ]
    different = len({row for rows in seen.values() for row in rows})
    raise LeakError(
        f"{counted(different, f'{split} review')}, or near-duplicates ({METHOD} >= {similarity:g}), are known to the "
        f"model, {'; '.join(parts)}; scores would be too high: {advice}"
    )
