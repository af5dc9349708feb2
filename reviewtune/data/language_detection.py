"""Which language a review is in, told offline by py3langid, and honest about short texts."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

SURE = 0.9
"""Below this probability a text counts as unsure: "Day one. Hole." could be English, Danish or Afrikaans."""
UNSURE = "unsure"


class Guess(NamedTuple):
    """ISO 639-1 code, or UNSURE, and the probability of the likeliest language."""

    language: str
    probability: float


def detect(texts: Sequence[str]) -> list[Guess]:
    """The language of each text (model: Lui and Baldwin, langid.py, ACL 2012 demonstrations, retrained)."""
    identify = _identifier().classify
    guesses = [Guess(str(code), float(probability)) for code, probability in map(identify, texts)]
    return [guess if guess.probability >= SURE else guess._replace(language=UNSURE) for guess in guesses]


@lru_cache(maxsize=1)
def _identifier() -> Any:  # noqa: ANN401 - the library ships no types
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
