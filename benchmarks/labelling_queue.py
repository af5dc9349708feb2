"""What 100 labels are worth: chosen as `reviewtune queue` chooses them, and at random.

    python benchmarks/labelling_queue.py --data reviews_en --start 150
    python benchmarks/labelling_queue.py --data banking77 --start 770 --seeds 5

A linear model learns from --start reviews and labels the pool; 100 reviews of the pool are chosen in one of three ways
and get their true labels; the model learns from all of them and is scored on the test split. Each seed draws other
reviews to start with. `queue` has a random sample of 40 for the audit and the 60 least sure, `least sure` no sample.
Prints the accuracy before and after, the mean over the seeds, the gain against random labels with the 95 % interval of
its mean (Student's t over the seeds), and how far the audit's accuracy is from that of the pool's reviews that are not
near-duplicates of labelled ones, which are left out.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from data_sets import SHARED
from reviews import split_reviews
from scipy.stats import t

from reviewtune.core.config.loading import load_config
from reviewtune.data.splits import alike
from reviewtune.evaluation import linear_baseline
from reviewtune.monitoring.labelling_queue.choose import Pick, Pool, Prediction, choose

LABELS = 100
SIMILARITY = 0.9
POOL = 3_000  # reviews to choose from, at most
AUDITS = {"random": LABELS, "queue": 40, "least sure": 0}
"""Size of the random sample among the chosen reviews."""


class Measured(NamedTuple):
    """Accuracies on the test split before and after, the audit's error, the share of the pool left out."""

    before: float
    after: dict[str, float]
    audit_error: float
    like_known: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="reviews_en", choices=["reviews_en", "banking77"])
    parser.add_argument("--start", type=int, default=150, help="labelled reviews before")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder of banking77/")
    options = parser.parse_args()
    train, test = _reviews() if options.data == "reviews_en" else _banking(options.shared)
    results = []
    for seed in range(options.seeds):
        results.append(measured(train, test, options.start, seed))
        print(seed, results[-1], flush=True)
    _report(results)


def measured(train: pd.DataFrame, test: pd.DataFrame, start: int, seed: int) -> Measured:
    """One draw of the reviews to start with."""
    order = train.sample(frac=1, random_state=seed).reset_index(drop=True)
    known, rest = order[:start], order[start : start + POOL].reset_index(drop=True)
    model = _fitted(known)
    shares = model.predict_proba(rest["text"].tolist())
    labels = model.classes_[shares.argmax(axis=1)]
    rated = zip(labels, shares.max(axis=1), strict=True)
    predictions = [Prediction(str(label), float(share)) for label, share in rated]
    pool = Pool(rest["text"].tolist(), predictions, known["text"].tolist(), SIMILARITY)
    picks = {name: choose(pool, size=LABELS, audit=audit, seed=seed) for name, audit in AUDITS.items()}
    added = {name: rest.iloc[[pick.position for pick in chosen]] for name, chosen in picks.items()}
    right = np.asarray(labels == rest["label"].to_numpy())
    like_known = [pair.left for pair in alike(pool.texts, pool.known, SIMILARITY)]
    return Measured(
        _accuracy(model, test),
        {name: _accuracy(_fitted(pd.concat([known, more])), test) for name, more in added.items()},
        _audited(picks["queue"], right) - float(np.delete(right, like_known).mean()),
        len(set(like_known)) / len(rest),
    )


def _audited(picks: list[Pick], right: np.ndarray) -> float:
    sample = [pick for pick in picks if pick.weight]
    return sum(pick.weight for pick in sample if right[pick.position]) / sum(pick.weight for pick in sample)


def _fitted(reviews: pd.DataFrame) -> Any:  # noqa: ANN401 - scikit-learn has no types
    return linear_baseline.fit(linear_baseline.classifier(0), reviews["text"].tolist(), reviews["label"].tolist())


def _accuracy(model: Any, test: pd.DataFrame) -> float:  # noqa: ANN401
    return float(np.mean(model.predict(test["text"].tolist()) == test["label"].to_numpy()))


def _reviews() -> tuple[pd.DataFrame, pd.DataFrame]:
    parts = split_reviews(load_config(["data=reviews_en"]))
    return pd.concat([parts.train, parts.valid], ignore_index=True), parts.test


def _banking(shared: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    train, test = (pd.read_csv(shared / "banking77" / f"{name}.csv", dtype=str) for name in ("train", "test"))
    return train, test


def _report(results: list[Measured]) -> None:
    print(f"before: {np.mean([one.before for one in results]):.3f}")
    base = np.array([one.after["random"] for one in results])
    for name in AUDITS:
        after = np.array([one.after[name] for one in results])
        gain, error = (after - base).mean(), (after - base).std(ddof=1) / np.sqrt(len(results))
        half = float(t.ppf(0.975, len(results) - 1)) * error
        print(f"{name}: {after.mean():.3f}, against random {gain:+.3f} ({gain - half:+.3f} to {gain + half:+.3f})")
    errors = np.array([one.audit_error for one in results])
    print(f"audit minus pool: mean {errors.mean():+.3f}, standard deviation {errors.std(ddof=1):.3f}")
    print(f"of the pool {np.mean([one.like_known for one in results]):.1%} are like labelled reviews, and left out")


if __name__ == "__main__":
    main()
