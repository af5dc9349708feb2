"""Reviews as hashed counts of words and characters: enough to compare texts later without keeping the texts.

A hash cannot be turned back into a text, but somebody who has the counts can check whether a given word occurs in a
review. So treat a file of them as you treat the reviews.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

DIMENSIONS = 2**18
CHARACTERS = (2, 5)  # lengths of character n-grams, as of the linear baseline


@dataclass(frozen=True)
class TextFeatures:
    """Counts of the same texts.

    Args:
        words: [texts, DIMENSIONS].
        characters: character n-grams inside words, [texts, DIMENSIONS].
    """

    words: "csr_matrix"
    characters: "csr_matrix"

    def __len__(self) -> int:
        return int(self.words.shape[0])

    def rows(self, chosen: Sequence[int]) -> "TextFeatures":
        """The features of these texts, in this order."""
        return TextFeatures(self.words[list(chosen)], self.characters[list(chosen)])


def text_features(texts: Sequence[str]) -> TextFeatures:
    """Count the words and the character n-grams of each text."""
    return TextFeatures(_words().transform(texts), _characters().transform(texts))


def words_of(text: str) -> list[str]:
    """The words that are counted, in order."""
    analyze = _words().build_analyzer()
    return [str(word) for word in analyze(text)]


def write_features(features: TextFeatures, folder: Path) -> None:
    """Write the counts into an existing folder."""
    from scipy.sparse import save_npz

    for path, matrix in zip(_files(folder), (features.words, features.characters), strict=True):
        save_npz(path, matrix)


def read_features(folder: Path) -> TextFeatures:
    """Read what `write_features` wrote.

    Raises:
        OSError, ValueError: a file is missing or damaged.
    """
    from scipy.sparse import csr_matrix, load_npz

    words, characters = (csr_matrix(load_npz(path)) for path in _files(folder))
    return TextFeatures(words, characters)


def _files(folder: Path) -> tuple[Path, Path]:
    return folder / "reference_words.npz", folder / "reference_characters.npz"


def _words() -> Any:  # noqa: ANN401 - scikit-learn has no types
    return _hashing(analyzer="word", ngram_range=(1, 1))


def _characters() -> Any:  # noqa: ANN401
    return _hashing(analyzer="char_wb", ngram_range=CHARACTERS)


def _hashing(**settings: Any) -> Any:  # noqa: ANN401
    import numpy as np
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(n_features=DIMENSIONS, alternate_sign=False, norm=None, dtype=np.float32, **settings)
