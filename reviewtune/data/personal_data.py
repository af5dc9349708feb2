"""Detect and mask personal data in reviews: e-mail addresses, telephone numbers and order numbers.

Telephone numbers are those that Google's libphonenumber calls valid, in the numbering plans of the review's language
(or languages, as in en+ko) or with a leading +. Names and postal addresses are not detected: that needs a model, whose
errors nobody could predict.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from reviewtune.core.normalisation import normalise
from reviewtune.data.language_detection import codes_of

if TYPE_CHECKING:
    from reviewtune.core.config.data import DataConfig

Kind = Literal["email", "order_number", "phone"]
KINDS: tuple[Kind, ...] = ("email", "order_number", "phone")
MASKS: dict[Kind, str] = {"email": "[EMAIL]", "order_number": "[ORDER_NUMBER]", "phone": "[PHONE]"}

# Numbers without a country code are read by these plans; in other languages a number needs the leading +.
REGIONS = {
    "en": ("US", "GB"), "ko": ("KR",), "pt": ("BR", "PT"), "de": ("DE", "AT", "CH"), "fr": ("FR", "BE"),
    "es": ("ES", "MX"), "it": ("IT",), "nl": ("NL",), "ja": ("JP",), "zh": ("CN", "TW"),
}  # fmt: skip

LATIN = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"  # letters of other scripts may touch an address
EMAIL = re.compile(
    rf"(?<![{LATIN}0-9._%+-])[{LATIN}0-9._%+-]{{1,64}}@(?:[{LATIN}0-9-]{{1,63}}\.){{1,8}}[A-Za-z]{{2,24}}"
)
EMAIL_V1 = re.compile(r"(?<![\w.%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}")
ORDER = re.compile(
    r"(?:\b(?:order|invoice|tracking|reference|ref|ticket|case|rma)\b|주문|운송장|송장|접수)"
    r"(?:\s?(?:number|num|no|nr|id|code|번호))?\.?\s?(?:is|was|은|는|이|가)?\s?[:#=]?\s?#?\s?"
    r"(?P<number>[A-Za-z0-9][A-Za-z0-9-]{4,30}[A-Za-z0-9])"
    r"|(?<![\d-])(?P<market>\d{3}-\d{7}-\d{7})(?![\d-])",  # the format of the largest marketplace
    re.IGNORECASE,
)
DATE = re.compile(r"\d{4}-\d\d?-\d\d?|\d\d?-\d\d?-\d{4}")
MIN_DIGITS = 5  # "order 2 sizes up" is not an order number


class PersonalItem(NamedTuple):
    """A piece of personal data: text[start:end]."""

    kind: Kind
    start: int
    end: int


def find(text: str, language: str, *, email: re.Pattern[str] = EMAIL) -> list[PersonalItem]:
    """Find the personal data in a text.

    Args:
        text: a review.
        language: ISO 639-1 code, or several joined by +; selects the numbering plans.
        email: what counts as an address.

    Returns:
        The items in the order of the text. If two overlap, the one whose kind comes first in KINDS is kept.
    """
    kept: list[PersonalItem] = []
    for item in (*_emails(text, email), *_orders(text), *_phones(text, language)):
        if all(item.end <= other.start or other.end <= item.start for other in kept):
            kept.append(item)
    return sorted(kept, key=lambda item: item.start)


def mask(text: str, language: str, *, email: re.Pattern[str] = EMAIL) -> str:
    """Replace personal data by [EMAIL], [ORDER_NUMBER] and [PHONE]; `language` and `email` as in `find`."""
    for item in reversed(find(text, language, email=email)):
        text = text[: item.start] + MASKS[item.kind] + text[item.end :]
    return text


def prepared(text: str, data: "DataConfig") -> str:
    """A text as it is in the training file: normalised, and masked if `data.mask_personal` is set."""
    text = normalise(text)
    return mask(text, data.language) if data.mask_personal else text


def count(texts: Iterable[str], language: str) -> dict[str, int]:
    """Number of texts with each kind of personal data, masked or not."""
    totals = Counter(kind for text in texts for kind in _kinds(text, language))
    return {kind: totals[kind] for kind in KINDS}


def _kinds(text: str, language: str) -> set[Kind]:
    return {item.kind for item in find(text, language)} | {kind for kind in KINDS if MASKS[kind] in text}


def _emails(text: str, pattern: re.Pattern[str]) -> Iterator[PersonalItem]:
    return (PersonalItem("email", *match.span()) for match in pattern.finditer(text))


def _orders(text: str) -> Iterator[PersonalItem]:
    for match in ORDER.finditer(text):
        group = "number" if match["number"] else "market"
        number = match[group]
        if sum(character.isdigit() for character in number) >= MIN_DIGITS and not DATE.fullmatch(number):
            yield PersonalItem("order_number", *match.span(group))


def _phones(text: str, language: str) -> Iterator[PersonalItem]:
    if not re.search(r"(?:\d\D{0,3}){7}", text):  # the search is slow, and few reviews have seven digits close together
        return
    import phonenumbers

    plans = {region for code in codes_of(language) for region in REGIONS.get(code, (None,))}
    for region in sorted(plans, key=str):
        for match in phonenumbers.PhoneNumberMatcher(text, region):
            yield PersonalItem("phone", match.start, match.end)
