"""What looks equal becomes equal; what changes the meaning of a text is kept."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewtune.core.normalisation import normalise

ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (" a \t\n b\u00a0c\u3000d ", "a b c d"),
        ("\u1112\u1161\u11ab", "\ud55c"),  # three letters of a Korean syllable
        ("cut \ud83d", "cut \ufffd"),
        ("\ud83d\ude00 \U0001f600", "\U0001f600 \U0001f600"),  # both halves are the whole emoji
        ("\ufefflate\u200b", "late"),
        ("Liefer\u00adverzug", "Lieferverzug"),
        ("\u202alate\u202c \u200e(\u2067x\u2069)", "late (x)"),
        ("e\u200b\u0301", "\u00e9"),
        ("\u3164\u200b\u2800", ""),  # a review that looks empty
        ("late\u200c, \u200dbroken\u200d", "late, broken"),
        ("hidden\U000e0041\U000e0042 order", "hidden order"),
    ],
)
def test_what_nobody_sees_is_removed(text: str, normal: str) -> None:
    assert normalise(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian: the non-joiner separates prefix and verb
        "\u0915\u094d\u200d \u0937",  # Devanagari: the joiner keeps a half letter at a word's end
        "\U0001f469\u200d\U0001f4bb",  # a woman with a computer is one emoji
        "\U0001f441\ufe0f\u200d\U0001f5e8\ufe0f",
        f"from {ENGLAND}",
    ],
)
def test_what_changes_a_text_is_kept(text: str) -> None:
    assert normalise(text) == text


@given(st.text())
def test_the_normal_form_is_stable_and_the_same_for_decomposed_text(text: str) -> None:
    normal = normalise(text)
    assert normalise(normal) == normal
    assert normalise(unicodedata.normalize("NFD", normal)) == normal
