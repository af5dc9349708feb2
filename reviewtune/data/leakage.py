"""No leak: a test review, or a near-duplicate of one, must not be known to the model or stand in its prompt."""

from collections.abc import Mapping, Sequence

import pandas as pd

from reviewtune.data.splits import METHOD, alike
from reviewtune.errors import LeakError

SHOWN = 5


def refuse_leak(test: pd.DataFrame, known: Mapping[str, Sequence[str]], *, similarity: float) -> None:
    """Compare the test texts with each named collection of known texts.

    Raises:
        LeakError: naming the test reviews that are known and where.
    """
    texts = test["text"].tolist()
    for name, others in known.items():
        pairs = alike(texts, list(others), similarity) if others else []
        if leaked := sorted({pair.left for pair in pairs}):
            ids = ", ".join(test["review_id"].iloc[leaked[:SHOWN]])
            raise LeakError(
                f"{len(leaked)} test review(s) stand, as they are or nearly ({METHOD} >= {similarity:g}), in {name}: "
                f"{ids}{', ...' if len(leaked) > SHOWN else ''}; scores would be too good: run `dvc repro`, or "
                "evaluate on reviews that the model has not seen"
            )
