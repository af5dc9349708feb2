"""New topics: groups of new reviews that are alike and that the labelled reviews do not have.

Every review is the centre of neighbourhoods of several sizes in the space of words (latent semantic analysis). A new
topic is one where new reviews are denser than chance allows, and far from the training reviews of every label.

Sources: Kulldorff, A spatial scan statistic, Communications in Statistics 26 (1997) 1481-1496: the likelihood ratio of
each neighbourhood is compared with the largest one after new and labelled reviews were exchanged at random. That is
exact for the search over all neighbourhoods. Deerwester et al., Indexing by latent semantic analysis, JASIS 41 (1990).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reviewtune.deployment.text_features import TextFeatures, words_of
from reviewtune.evaluation.metrics.significance import ALPHA
from reviewtune.monitoring.text_drift import tf_idf

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

SIZES = (8, 12, 20, 30, 45, 70)  # reviews in a neighbourhood
DIMENSIONS = 100
LANCZOS = 1_400  # texts from which on it is used
DRAWS, SEED = 999, 0
MOST_KNOWN, MOST_NEW = 2_000, 1_000
FEWEST = 30  # new reviews
WORDS, EXAMPLES, TOPICS = 8, 3, 5  # shown, at most
MIN_SHARE = 0.6  # of a topic's reviews that contain new ones; a topic of known reviews is a surge of its label


@dataclass(frozen=True)
class Group:
    """A neighbourhood with more new reviews than chance allows.

    Args:
        members: positions of its new reviews, the most typical first.
        known: number of labelled reviews in it.
        p: p-value, exact for the search.
        distance: median cosine distance of the members to their nearest training review.
        usual: the same for test reviews.
    """

    members: tuple[int, ...]
    known: int
    p: float
    distance: float
    usual: float


@dataclass(frozen=True)
class Search:
    """The outcome: groups that are significant and far, and the p-value of the most significant far neighbourhood."""

    groups: tuple[Group, ...]
    p: float


def find_topics(training: TextFeatures, test: TextFeatures, new: TextFeatures, *, seed: int = SEED) -> Search | None:
    """Search for new topics; None if there are fewer than FEWEST new reviews.

    Args:
        training: reviews that models learned from.
        test: labelled reviews that they did not.
        new: the new reviews.
        seed: of the exchanges, and of the sample of too many texts.
    """
    if len(new) < FEWEST:
        return None
    draw = np.random.default_rng(seed)
    chosen = _sample(len(new), MOST_NEW, draw)
    kept = _sample(len(training), MOST_KNOWN, draw)
    parts = (training.rows(kept), test.rows(_sample(len(test), MOST_NEW, draw)), new.rows(chosen))
    features = tf_idf(*parts, words_only=True)
    known, n = len(parts[0]) + len(parts[1]), features.shape[0]
    order = _neighbours(_semantic(features), draw)
    is_new = np.arange(n) >= known
    far = _distances(features, len(parts[0]))
    ratios, largest = _scan(order, is_new, draw)
    groups = [
        _placed(group, chosen, known)
        for group in _groups(ratios, largest, order, is_new, far, usual=far[len(parts[0]) : known])
    ]
    p = min((group.p for group in groups), default=1.0)
    return Search(tuple(group for group in groups if group.p < ALPHA), p)


def typical_words(texts: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """Words that are in more of these texts than in the others, by the log-odds of their document frequencies."""
    inside = Counter(word for text in texts for word in set(words_of(text)))
    outside = Counter(word for text in others for word in set(words_of(text)))
    least = max(2, len(texts) // 6)

    def weight(word: str) -> float:
        a, b = (inside[word] + 0.5) / (len(texts) + 1), (outside[word] + 0.5) / (len(others) + 1)
        return float(inside[word] / len(texts) * np.log(a / b))

    words = [word for word, count in inside.items() if count >= least and weight(word) > 0]
    return tuple(sorted(words, key=lambda word: (-weight(word), word))[:WORDS])


def _semantic(features: "csr_matrix") -> np.ndarray:
    """Latent semantic coordinates [texts, DIMENSIONS], rows of length 1; empty texts are zero."""
    values, vectors = _leading((features @ features.T).toarray())  # of all pairs: there are fewer texts than words
    places = vectors * np.sqrt(np.maximum(values, 0.0))
    length = np.linalg.norm(places, axis=1, keepdims=True)
    return np.asarray(places / np.where(length > 1e-6, length, 1.0))


def _leading(products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest DIMENSIONS eigenvalues and their vectors: Lanczos' method is faster where that is a small part."""
    from scipy.linalg import eigh
    from scipy.sparse.linalg import eigsh

    n = len(products)
    if n < LANCZOS:
        found = eigh(products, subset_by_index=(max(0, n - DIMENSIONS), n - 1))
    else:
        found = eigsh(products, k=DIMENSIONS, which="LA", v0=np.ones(n, dtype=products.dtype))
    return np.asarray(found[0]), np.asarray(found[1])


def _neighbours(places: np.ndarray, draw: Any) -> np.ndarray:  # noqa: ANN401 - numpy's generator
    """Of each text its nearest ones [texts, largest size], itself first; ties in random order."""
    n, most = len(places), min(max(SIZES), len(places))
    shuffled = draw.permutation(n)  # the order of the texts must not decide between equals: the new ones come last
    farness = -(places @ places[shuffled].T)
    np.put_along_axis(farness, np.argsort(shuffled)[:, None], -2.0, axis=1)
    nearest = np.sort(np.argpartition(farness, most - 1, axis=1)[:, :most], axis=1)
    order = np.argsort(np.take_along_axis(farness, nearest, axis=1), axis=1, kind="stable")
    return np.asarray(shuffled[np.take_along_axis(nearest, order, axis=1)])


def _distances(features: "csr_matrix", training: int) -> np.ndarray:
    """Cosine distance [texts] of each text to the nearest training review; of training reviews themselves 0."""
    nearest = (features @ features[:training].T).max(axis=1).toarray().ravel()
    return np.asarray(1.0 - nearest)


def _scan(order: np.ndarray, is_new: np.ndarray, draw: Any) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN401
    """The likelihood ratio of each neighbourhood [sizes, texts], and the largest one after each exchange [DRAWS].

    The ratio grows with the number of new reviews, so of each size only the largest number is looked up.
    """
    n, total = order.shape[0], int(is_new.sum())
    exchanged = np.repeat(is_new[:, None].astype(np.float32), DRAWS + 1, axis=1)
    exchanged[:, 1:] = draw.permuted(exchanged[:, 1:], axis=0)
    counts = np.zeros_like(exchanged)
    ratios, largest, start = [], np.zeros(DRAWS), 0
    for size in (size for size in SIZES if size <= order.shape[1] and size < n):
        counts += _sums(order[:, start:size], exchanged)
        ratio, start = _log_ratio(n, total, size), size
        ratios.append(ratio[counts[:, 0].astype(int)])
        largest = np.maximum(largest, ratio[counts[:, 1:].max(axis=0).astype(int)])
    return np.array(ratios), largest


def _sums(members: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of the values [texts, draws], the sum over the members [texts, some] of each neighbourhood."""
    from scipy.sparse import csr_matrix

    n, width = members.shape
    ones = np.ones(members.size, dtype=values.dtype)
    return np.asarray(csr_matrix((ones, members.ravel(), np.arange(n + 1) * width), shape=(n, n)) @ values)


def _log_ratio(n: int, total: int, size: int) -> np.ndarray:
    """The ratio for each possible count of new reviews in a neighbourhood [size + 1]."""
    from scipy.special import xlogy

    inside = np.arange(size + 1, dtype=float)
    outside = total - inside
    p, q, share = inside / size, outside / (n - size), total / n
    possible = (outside >= 0) & (outside <= n - size) & (p > share)
    fitted = xlogy(inside, p) + xlogy(size - inside, 1 - p) + xlogy(outside, np.maximum(q, 0))
    fitted = fitted + xlogy(n - size - outside, np.maximum(1 - q, 0))
    return np.asarray(np.where(possible, fitted - xlogy(total, share) - xlogy(n - total, 1 - share), 0.0))


def _groups(
    ratios: np.ndarray,
    largest: np.ndarray,
    order: np.ndarray,
    is_new: np.ndarray,
    far: np.ndarray,
    *,
    usual: np.ndarray,
) -> Iterator[Group]:
    """Far neighbourhoods without common reviews, the densest first, at most TOPICS."""
    taken, found = np.zeros(len(is_new), dtype=bool), 0
    for place in np.argsort(-ratios, axis=None, kind="stable"):
        size_at, centre = np.unravel_index(place, ratios.shape)
        ratio = ratios[size_at, centre]
        if found == TOPICS or ratio <= 0:
            return
        p = float((1 + (largest >= ratio - 1e-9).sum()) / (len(largest) + 1))
        if p >= ALPHA and found:
            return
        members = order[centre, : SIZES[size_at]]
        inside = members[is_new[members]]
        # The last question is the slow one.
        if len(inside) < MIN_SHARE * len(members) or taken[members].any() or not _is_far(far[inside], usual):
            continue
        taken[members] = True
        found += 1
        yield Group(
            members=tuple(int(place) for place in inside),
            known=int(len(members) - len(inside)),
            p=p,
            distance=float(np.median(far[inside])),
            usual=float(np.median(usual)) if len(usual) else 0.0,
        )


def _is_far(distances: np.ndarray, usual: np.ndarray) -> bool:
    """Whether the distances are larger than those of test reviews: those of a label that surges are not."""
    from scipy.stats import mannwhitneyu

    if not len(usual):
        return True
    return float(mannwhitneyu(distances, usual, alternative="greater").pvalue) < ALPHA


def _placed(group: Group, chosen: Sequence[int], known: int) -> Group:
    """With the members as positions in the new reviews."""
    return Group(
        tuple(chosen[place - known] for place in group.members), group.known, group.p, group.distance, group.usual
    )


def _sample(n: int, most: int, draw: Any) -> list[int]:  # noqa: ANN401
    return list(range(n)) if n <= most else sorted(int(i) for i in draw.choice(n, most, replace=False))
