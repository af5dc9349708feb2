"""Simulated streams of new reviews, and the champion that answers them, for monitoring.py.

Each repeat draws everything anew: which labels are known, the reviews that the champion learns from, those that
calibrate it, the test reviews, and the pool that the streams are drawn from. No review is in two of these parts. A
stream has a random number of reviews, none of them twice. The champion is the pipeline's linear arm with isotonic
calibration, as `reviewtune promote` fits it. It is fitted on the rotated features (its own kernel matrix): the same
optimum, found faster, because there are fewer reviews than features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reviewtune.analyzer.calibration import fit_calibration
from reviewtune.analyzer.classification import Classification
from reviewtune.analyzer.classifier import Note, Outcome, ignore
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.deployment.reference import StoredReference, make_reference
from reviewtune.deployment.text_features import text_features
from reviewtune.evaluation import linear_baseline

ROOT = Path(__file__).parents[1]
FOREIGN = ROOT / "data" / "raw" / "reviews_ko.csv"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TYPO_SHARE, TYPO_LENGTH = 0.3, 4  # of the words with at least so many letters
PERIOD, LAST = 28, date(2026, 11, 29)  # days of a stream
CONCENTRATION = 2.0  # of the Dirichlet distribution from which a changed label mix is drawn


class Sizes(NamedTuple):
    """Numbers of labels and reviews."""

    labels: int
    train: int
    valid: int
    test: int
    fewest: int  # of a stream
    most: int


DATA = {
    "banking77": Sizes(labels=12, train=600, valid=150, test=300, fewest=200, most=500),
    "reviews_en": Sizes(labels=11, train=250, valid=60, test=150, fewest=200, most=300),
}


class Champion:
    """The linear arm. It also gives the share of each label, so that a label can be taken from it.

    Args:
        train: reviews to learn from, with columns text and label.
        valid: reviews that calibrate it.
    """

    model, version, is_calibrated = "linear", "1", True

    def __init__(self, train: pd.DataFrame, valid: pd.DataFrame) -> None:
        self._features, self._head = linear_baseline.classifier(0)
        known = self._features.fit_transform(train["text"])
        values, vectors = np.linalg.eigh((known @ known.T).toarray())
        kept = values > 1e-9
        self._rotation = known.T @ (vectors[:, kept] / np.sqrt(values[kept]))
        linear_baseline.fit(self._head, known @ self._rotation, train["label"])
        self.labels = tuple(map(str, self._head.classes_))
        self._shares: dict[str, np.ndarray] = {}  # by text: the streams of a repeat share most texts
        self.dead: str | None = None  # a label that it no longer gives
        labels, sure = self._raw(valid["text"].tolist())
        self._calibration = fit_calibration(sure.tolist(), (labels == valid["label"].to_numpy()).tolist())

    def open(self) -> None:
        """It is fitted already."""

    def classify(self, texts: Sequence[str], *, cache: bool = False, progress: Progress = SILENT) -> list[Outcome]:
        return [*self.answers(texts)]

    async def aclassify(self, texts: Sequence[str], note: Note = ignore) -> list[Outcome]:
        return [*self.answers(texts)]

    def answers(self, texts: Sequence[str]) -> list[Classification]:
        """The label of each text, with its calibrated confidence."""
        labels, sure = self._raw(texts)
        assert self._calibration is not None
        return [
            Classification(str(label), self._calibration.of(float(share)))
            for label, share in zip(labels, sure, strict=True)
        ]

    def _raw(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        if new := [text for text in dict.fromkeys(texts) if text not in self._shares]:
            found = self._head.predict_proba(self._features.transform(new) @ self._rotation)
            self._shares.update(zip(new, found, strict=True))
        shares = np.array([self._shares[text] for text in texts])
        if self.dead is not None:
            shares[:, self.labels.index(self.dead)] = 0.0
            shares /= shares.sum(axis=1, keepdims=True)
        return np.asarray(self.labels)[shares.argmax(axis=1)], shares.max(axis=1)


@dataclass(frozen=True)
class World:
    """One repeat: a champion with its reference, and what the streams are drawn from.

    Args:
        champion: the model.
        reference: as promotion stores it.
        test: the test reviews, with columns text and label.
        pool: reviews like them.
        topic: reviews of a topic without a label.
        sizes: of the streams.
    """

    champion: Champion
    reference: StoredReference
    test: pd.DataFrame
    pool: pd.DataFrame
    topic: list[str]
    sizes: Sizes


@dataclass(frozen=True)
class Stream:
    """New reviews.

    Args:
        texts: the reviews.
        labels: true labels, "" for those of a new topic.
        dates: of each review.
        dead: a label that the model does not give any more.
    """

    texts: list[str]
    labels: list[str]
    dates: tuple[date, ...]
    dead: str | None = None


def read_data(name: str, shared: Path) -> tuple[pd.DataFrame, list[str]]:
    """All labelled reviews, each text once, and reviews of a new topic; of Banking77 a label left out is the topic."""
    if name == "reviews_en":
        topic = pd.read_csv(Path(__file__).with_name("new_topic.csv"), dtype=str)["text"].tolist()
        return _distinct(pd.read_csv(ROOT / "data" / "raw" / "reviews_en.csv", dtype=str)), topic
    parts = [pd.read_csv(shared / name / f"{part}.csv", dtype=str) for part in ("train", "test")]
    return _distinct(pd.concat(parts)), []


def make_world(name: str, rows: pd.DataFrame, topic: list[str], draw: np.random.Generator) -> World:
    """Draw the labels and the parts, fit the champion, and store the reference."""
    sizes = DATA[name]
    names = draw.permutation(sorted(set(rows["label"]))).tolist()
    if not topic:  # the first of the shuffled labels that has reviews enough for every stream
        counts = rows["label"].value_counts()
        new = next(label for label in names if counts[label] >= sizes.most // 5)
        topic = rows.loc[rows["label"] == new, "text"].tolist()
        names.remove(new)
    known = rows[rows["label"].isin(names[: sizes.labels])]
    known = known.iloc[draw.permutation(len(known))].reset_index(drop=True)
    bounds = np.cumsum([sizes.train, sizes.valid, sizes.test])
    train, valid, test = (known[end - size : end] for end, size in zip(bounds, sizes[1:4], strict=True))
    champion = Champion(train, valid)
    answers = champion.answers(test["text"].tolist())
    facts = make_reference(
        test["text"].tolist(),
        test["label"].tolist(),
        [answer.label for answer in answers],
        [answer.confidence or 0.0 for answer in answers],
        training=sizes.train + sizes.valid,
    )
    features = text_features([*train["text"], *valid["text"], *test["text"]])
    return World(champion, StoredReference(facts, features), test, known[bounds[-1] :], topic, sizes)


def make_stream(kind: str, world: World, draw: np.random.Generator) -> Stream:
    """Draw a stream of one kind of change."""
    most = min(world.sizes.most, len(world.pool))
    n = int(draw.integers(world.sizes.fewest, most + 1))
    texts, labels, dead = STREAMS[kind](world, n, draw)
    order = draw.permutation(len(texts))
    days = draw.integers(0, PERIOD, len(texts))
    dates = tuple(LAST - timedelta(days=int(day)) for day in days)
    return Stream([texts[place] for place in order], [labels[place] for place in order], dates, dead)


Drawn = tuple[list[str], list[str], str | None]


def _same(world: World, n: int, draw: np.random.Generator) -> Drawn:
    rows = world.pool.iloc[draw.choice(len(world.pool), n, replace=False)]
    return rows["text"].tolist(), rows["label"].tolist(), None


def _label_shift(world: World, n: int, draw: np.random.Generator) -> Drawn:
    """Another label mix, as far as the pool has the reviews."""
    names = world.champion.labels
    counts = draw.multinomial(n, draw.dirichlet(np.full(len(names), CONCENTRATION)))
    parts = [world.pool[world.pool["label"] == label] for label in names]
    chosen = [
        part.iloc[draw.permutation(len(part))[:count]] for part, count in zip(parts, counts.tolist(), strict=True)
    ]
    rows = pd.concat(chosen)
    return rows["text"].tolist(), rows["label"].tolist(), None


def _mixed(others: Callable[[World], list[str]], share: float) -> Callable[..., Drawn]:
    """A share of the reviews comes from elsewhere."""

    def drawn(world: World, n: int, draw: np.random.Generator) -> Drawn:
        extra = round(share * n)
        texts, labels, _ = _same(world, n - extra, draw)
        pool = others(world)
        more = [pool[place] for place in draw.choice(len(pool), extra, replace=False)]
        return [*texts, *more], [*labels, *[""] * extra], None

    return drawn


def _typos(world: World, n: int, draw: np.random.Generator) -> Drawn:
    texts, labels, _ = _same(world, n, draw)
    return [" ".join(_misspelt(word, draw) for word in text.split()) for text in texts], labels, None


def _misspelt(word: str, draw: np.random.Generator) -> str:
    """A letter left out, doubled, replaced, or exchanged with the next one."""
    if len(word) < TYPO_LENGTH or draw.random() >= TYPO_SHARE:
        return word
    at, kind = int(draw.integers(len(word) - 1)), int(draw.integers(4))
    middle = ["", word[at] * 2, LETTERS[draw.integers(26)], word[at + 1] + word[at]][kind]
    return word[:at] + middle + word[at + (2 if kind == 3 else 1) :]


def _dead_label(world: World, n: int, draw: np.random.Generator) -> Drawn:
    texts, labels, _ = _same(world, n, draw)
    return texts, labels, str(draw.choice(world.champion.labels))


def _korean(_: World) -> list[str]:
    texts: list[str] = pd.read_csv(FOREIGN, dtype=str)["text"].tolist()
    return texts


def _topic(world: World) -> list[str]:
    return world.topic


STREAMS: dict[str, Callable[..., Drawn]] = {
    "nothing": _same,
    "label mix": _label_shift,
    "topic 5 %": _mixed(_topic, 0.05),
    "topic 10 %": _mixed(_topic, 0.10),
    "topic 20 %": _mixed(_topic, 0.20),
    "language 10 %": _mixed(_korean, 0.10),
    "typos": _typos,
    "dead label": _dead_label,
}


def _distinct(rows: Any) -> pd.DataFrame:  # noqa: ANN401 - pandas types
    return pd.DataFrame(rows[["text", "label"]]).drop_duplicates("text").reset_index(drop=True)
