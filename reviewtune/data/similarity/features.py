"""Fewer columns with the same cosines, rare ones first: what the search for near-duplicates works on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reviewtune.data.similarity.ngrams import WordCounts

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix, csr_matrix


def rare_first(lists: Sequence[WordCounts]) -> list["csr_matrix"]:
    """Unit vectors [texts, features] of each list, in single precision, features in ascending order of their frequency.

    n-grams that occur in the same words equally often are one feature, which has the square root of their number as
    its weight. So the cosine of two texts is that of their n-grams.

    Args:
        lists: as `count_words` returns them, with the same n-grams.
    """
    from sklearn.preprocessing import normalize

    features = _merged(lists[0].grams.tocsc())
    counts = [np.bincount(each.words.indices, minlength=features.shape[0]) for each in lists]
    occurrences = np.sum(counts, axis=0)
    order = np.argsort(features.sign().T @ occurrences, kind="stable")  # of 0 and 1: counts are positive
    ordered = features[:, order].tocsr().astype(np.float32)
    vectors = [each.words.astype(np.float32) @ ordered for each in lists]
    for each in vectors:
        each.sort_indices()
    return [normalize(each, copy=False) for each in vectors]


def _merged(grams: "csc_matrix") -> "csc_matrix":
    """The different columns, each with the weight of all columns that are equal to it."""
    from scipy.sparse import diags_array

    places: dict[tuple[bytes, bytes], list[int]] = {}
    for column in np.flatnonzero(np.diff(grams.indptr)).tolist():
        part = slice(grams.indptr[column], grams.indptr[column + 1])
        places.setdefault((grams.indices[part].tobytes(), grams.data[part].tobytes()), []).append(column)
    first = [columns[0] for columns in places.values()]
    weights = np.sqrt([len(columns) for columns in places.values()])
    merged: csc_matrix = (grams[:, first] @ diags_array(weights)).tocsc()
    return merged
