"""Language detection: our reviews are in the declared language, and a short text counts as unsure."""

from pathlib import Path

import pandas as pd
import pytest

from reviewtune.data.language_detection import UNSURE, detect


@pytest.mark.parametrize("language", ["en", "ko"])
def test_our_reviews_are_in_their_language_or_unsure(language: str, project: Path) -> None:
    texts = pd.read_csv(project / f"data/raw/reviews_{language}.csv")["text"].tolist()
    assert {detected.language for detected in detect(texts)} <= {language, UNSURE}


def test_a_mix_of_languages_is_detected() -> None:
    texts = [
        "Das Paket kam viel zu spät an und war schon geöffnet.",
        "O produto chegou atrasado e com a caixa amassada.",
        "El paquete llegó tarde y la caja estaba rota.",
        "The parcel came late and the box was crushed.",
        "배송이 너무 늦고 상자가 찌그러졌어요.",
        "!!! 5 ★",
    ]
    assert [detected.language for detected in detect(texts)] == ["de", "pt", "es", "en", "ko", UNSURE]
