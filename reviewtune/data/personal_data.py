"""Personal data in reviews: e-mail addresses, telephone numbers and order numbers, found and masked.

Telephone numbers are those that Google's libphonenumber calls valid, in the numbering plans of the review's language
(or languages, as in en+ko) or with a leading +. Names and postal addresses are not looked for: that takes a model,
and this must not guess.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

Kind = Literal["email", "order_number", "phone"]
KINDS: tuple[Kind, ...] = ("email", "order_number", "phone")
MASKS: dict[Kind, str] = {"email": "[EMAIL]", "order_number": "[ORDER_NUMBER]", "phone": "[PHONE]"}

# Numbers without a country code are read by these plans; a language that is not here needs the leading +.
REGIONS = {
    "en": ("US", "GB"), "ko": ("KR",), "pt": ("BR", "PT"), "de": ("DE", "AT", "CH"), "fr": ("FR", "BE"),
    "es": ("ES", "MX"), "it": ("IT",), "nl": ("NL",), "ja": ("JP",), "zh": ("CN", "TW"),
}  # fmt: skip

EMAIL = re.compile(r"(?<![\w.%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}")
ORDER = re.compile(
    r"(?:\b(?:order|invoice|tracking|reference|ref|ticket|case|rma)\b|주문|운송장|송장|접수)"
    r"(?:\s?(?:number|num|no|nr|id|code|번호))?\.?\s?(?:is|was|은|는|이|가)?\s?[:#=]?\s?#?\s?"
    r"(?P<number>[A-Za-z0-9][A-Za-z0-9-]{4,30}[A-Za-z0-9])"
    r"|(?<![\d-])(?P<market>\d{3}-\d{7}-\d{7})(?![\d-])",  # the form of the largest market place
    re.IGNORECASE,
)
DATE = re.compile(r"\d{4}-\d\d?-\d\d?|\d\d?-\d\d?-\d{4}")
MIN_DIGITS = 5  # "order 2 sizes up" names no order


class Found(NamedTuple):
    """One piece of personal data: text[start:end]."""

    kind: Kind
    start: int
    end: int


def find(text: str, language: str) -> list[Found]:
    """Everything found, in order, without overlaps; of two that overlap the one named first in KINDS is kept."""
    kept: list[Found] = []
    for one in (*_emails(text), *_orders(text), *_phones(text, language)):
        if all(one.end <= other.start or other.end <= one.start for other in kept):
            kept.append(one)
    return sorted(kept, key=lambda one: one.start)


def mask(text: str, language: str) -> str:
    """The text with [EMAIL], [ORDER_NUMBER] and [PHONE] in the places of what was found."""
    for one in reversed(find(text, language)):
        text = text[: one.start] + MASKS[one.kind] + text[one.end :]
    return text


def count(texts: Iterable[str], language: str) -> dict[str, int]:
    """How many texts hold each kind, open or masked."""
    kinds = (
        {one.kind for one in find(text, language)} | {kind for kind in KINDS if MASKS[kind] in text} for text in texts
    )
    totals = Counter(kind for found in kinds for kind in found)
    return {kind: totals[kind] for kind in KINDS}


def _emails(text: str) -> Iterator[Found]:
    return (Found("email", *match.span()) for match in EMAIL.finditer(text))


def _orders(text: str) -> Iterator[Found]:
    for match in ORDER.finditer(text):
        group = "number" if match["number"] else "market"
        number = match[group]
        if sum(character.isdigit() for character in number) >= MIN_DIGITS and not DATE.fullmatch(number):
            yield Found("order_number", *match.span(group))


def _phones(text: str, language: str) -> Iterator[Found]:
    if not re.search(r"(?:\d\D{0,3}){7}", text):  # most reviews have no seven digits near each other: save the search
        return
    import phonenumbers

    plans = {region for one in language.split("+") for region in REGIONS.get(one.split("-")[0].lower(), (None,))}
    for region in sorted(plans, key=str):
        for match in phonenumbers.PhoneNumberMatcher(text, region):
            yield Found("phone", match.start, match.end)
