"""The page in a real browser: light and dark, on a desk and on a phone, in English and in Korean."""

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from reviewtune.evaluation.comparison_page.page import PageInput
from tests.evaluation.comparison_page.conftest import page_input, written
from tests.support.browser import Browser, browser, needs_chromium
from tests.support.comparison_files import Folder

pytestmark = needs_chromium
VISIBLE = "[...document.querySelectorAll('#reviews tbody tr')].filter((row) => !row.hidden)"


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


def choose(tab: Browser, field: str, value: str) -> int:
    """Fill in a field of the search; returns how many reviews are shown."""
    tab.run(f"search.{field}.value = {value!r}; search.dispatchEvent(new Event('input'))")
    return int(tab.run(f"{VISIBLE}.length"))


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (390, False), (390, True)])
@pytest.mark.parametrize("language", ["folder", "korean"])
def test_it_fits_the_window_and_loads_nothing(
    language: str, width: int, dark: bool, tab: Browser, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    page = written(page_input(request.getfixturevalue(language)), tmp_path / "page.html")
    tab.requested.clear()
    tab.errors.clear()
    tab.open(page, width=width, dark=dark)
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run("getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 24, 30)" if dark else "rgb(246, 247, 249)"
    )
    assert tab.run("document.title").startswith("Comparison: 120 test reviews")  # the hostile review did not run
    assert tab.run("document.querySelectorAll('#verdict .verdict').length") == 5
    assert tab.run("Math.min(...[...document.querySelectorAll('.chart svg')].map((e) => e.clientWidth))") > 250
    assert set(tab.requested) <= {page.as_uri()}
    assert tab.errors == []


def test_reviews_are_found(tab: Browser, content: PageInput, tmp_path: Path) -> None:
    tab.open(written(content, tmp_path / "page.html"))
    some = tab.run(f"{VISIBLE}[0].cells[0].textContent")
    everything = int(tab.run(f"{VISIBLE}.length"))
    assert choose(tab, "words", "no such word") == 0
    assert choose(tab, "words", some.upper()) == 1
    assert 1 <= choose(tab, "words", "<SCRIPT> onerror") <= 9
    assert choose(tab, "words", "") == everything
    first = {"linear": 0, "zero_shot": 1, "few_shot": 2, "few_shot_cot": 3, "finetuned": 4}
    right = choose(tab, "right", str(first["finetuned"]))
    both = choose(tab, "wrong", str(first["zero_shot"]))
    test = content.comparison.finetuned_against["zero_shot"]
    assert everything > right > both == test.only_this_right
    assert tab.run("shown.textContent") == f"{both} of {everything} shown"


def test_korean_is_found_in_any_normal_form(tab: Browser, korean: Folder, tmp_path: Path) -> None:
    tab.open(written(page_input(korean), tmp_path / "page.html"))
    composed, decomposed = (choose(tab, "words", unicodedata.normalize(form, "배송 지연")) for form in ("NFC", "NFD"))
    assert 0 < composed == decomposed


def test_without_javascript_all_but_the_search_is_there(tab: Browser, content: PageInput, tmp_path: Path) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(written(content, tmp_path / "page.html"))
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)
    assert tab.run("getComputedStyle(search).display") == "none"
    assert tab.run(f"{VISIBLE}.length") > 10
