"""Refuse leakage: reviews of a measurement, or near-duplicates of them, that the model was trained or prompted with."""

from collections.abc import Mapping, Sequence

import pandas as pd

from reviewtune.data.splits import METHOD, alike
from reviewtune.errors import LeakError

SHOWN = 5


def refuse_leak(
    test: pd.DataFrame, known: Mapping[str, Sequence[str]], *, similarity: float, split: str = "test"
) -> None:
    """Compare the test texts with the texts that a model knows.

    Args:
        test: the reviews that a model is measured on, with the columns review_id and text.
        known: collections of texts by name, such as "the training file".
        similarity: texts at least this alike (`splits.METHOD`) are near-duplicates.
        split: the split that `test` holds, for the message.

    Raises:
        LeakError: naming the reviews that are in a collection.
    """
    texts = test["text"].tolist()
    for name, others in known.items():
        pairs = alike(texts, list(others), similarity) if others else []
        if leaked := sorted({pair.left for pair in pairs}):
            ids = ", ".join(test["review_id"].iloc[leaked[:SHOWN]])
            raise LeakError(
                f"{len(leaked)} {split} review(s), or near-duplicates ({METHOD} >= {similarity:g}), are in {name}: "
                f"{ids}{', ...' if len(leaked) > SHOWN else ''}; scores would be too high: run `dvc repro`, or "
                "evaluate on reviews that the model has not seen"
            )
