"""One normalisation for every text of a user: reviews, labels, column names, ids, slices and names in conf/.

What looks equal becomes equal. What changes the meaning or the look of a text is kept: the joiners inside Persian and
Indic words and emoji, variation selectors, and the letters of a flag.
"""

import re
import unicodedata

INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u061c\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]")
"""Soft hyphen, zero-width space, byte order mark, bidirectional marks, and others that no reader sees."""
BLANK = re.compile("[\\s\u2800\u3164\uffa0]+")
"""White space, and the letters that people type to send an empty review: Braille blank and Hangul filler."""
JOINERS = re.compile("[\u200c\u200d]+")
LAST_LATIN = "\u02ff"
VIRAMA = 9  # its canonical combining class
TAGS = re.compile("(\U0001f3f4[\U000e0020-\U000e007f]+)|[\U000e0000-\U000e007f]+")
"""Invisible copies of ASCII. They are real only in the flag of a region, such as Scotland's."""


def normalise(text: str) -> str:
    """The text in Unicode NFC, without invisible characters, with white space collapsed to single spaces.

    Half a surrogate pair becomes U+FFFD. A program that cuts a text inside an emoji leaves such a half. It cannot be
    written as UTF-8, so no request can contain it.
    """
    if text.isascii():
        return " ".join(text.split())
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    visible = TAGS.sub(lambda match: match[1] or "", INVISIBLE.sub("", whole))
    return unicodedata.normalize("NFC", JOINERS.sub(_joiner, BLANK.sub(" ", visible).strip(" ")))


def _joiner(match: re.Match[str]) -> str:
    """The joiner, if both sides are letters or signs of a script that joins; elsewhere nobody sees it.

    After a virama, which kills a vowel, it shapes the end of an Indic word too.
    """
    text, (start, end) = match.string, match.span()
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    joins = before > LAST_LATIN and after > LAST_LATIN
    shapes = bool(before) and unicodedata.combining(before) == VIRAMA
    return match[0][0] if joins or shapes else ""
