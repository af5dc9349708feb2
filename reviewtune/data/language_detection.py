"""Detect the language of a review offline, with py3langid; short texts count as unsure."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

MIN_PROBABILITY = 0.9
"""Texts below it count as unsure: "Day one. Hole." could be English, Danish or Afrikaans."""
UNSURE = "unsure"
COMMON = 0.02  # a language of fewer texts may be an error of the detector


class DetectedLanguage(NamedTuple):
    """ISO 639-1 code, or UNSURE, and the probability of the most likely language."""

    language: str
    probability: float


def codes_of(language: str) -> list[str]:
    """The ISO 639-1 codes of a data set's language: `en` and `ko` of `en+ko`, `pt` of `pt-BR`."""
    return [code.split("-")[0].lower() for code in language.split("+")]


def detect(texts: Sequence[str]) -> list[DetectedLanguage]:
    """Detect the language of each text.

    Source:
        Lui and Baldwin, langid.py, ACL 2012 demonstrations; py3langid retrained the model.
    """
    identify = _identifier().classify
    languages = [DetectedLanguage(str(code), float(probability)) for code, probability in map(identify, texts)]
    return [each if each.probability >= MIN_PROBABILITY else each._replace(language=UNSURE) for each in languages]


def main_languages(texts: Sequence[str], *, least: float = COMMON) -> str:
    """The languages of at least this share of the texts, most frequent first, joined by +; empty if none is sure."""
    counts = Counter(each.language for each in detect(texts) if each.language != UNSURE)
    return "+".join(name for name, n in counts.most_common() if n >= least * len(texts))


@lru_cache(maxsize=1)
def _identifier() -> Any:  # noqa: ANN401 - the library has no types
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
