"""The page as HTML: well formed, self-contained, safe, complete, and small."""

import re
import time
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from reviewtune.evaluation.comparison_page.disagreements import disagreements
from reviewtune.evaluation.comparison_page.page import PageInput, to_html
from tests.evaluation.comparison_page.conftest import HOSTILE, page_input
from tests.support.comparison_files import PLANS, ArmPlan, Folder, write_comparison

VOID = {"meta", "input", "br", "hr", "wbr"}


class Parsed(HTMLParser):
    """Elements with their attributes, the text of each id's element, and whether all elements are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_verdict_comes_first_and_every_part_is_there(content: PageInput) -> None:
    page = Parsed(to_html(content))
    ids = [attributes["id"] for attributes in page.all("section")]
    assert ids == [
        "verdict", "gates", "arms", "cost", "confusion", "labels", "confidence", "disagreements", "reading",
    ]  # fmt: skip
    for arm in content.comparison.arms:
        assert f"{100 * arm.accuracy.value:.1f} % [" in page.text
    for words in ("finetuned is better than zero_shot", "recommended: finetuned", "0.81 s", "expected calibration"):
        assert words in page.text
    assert {link["href"] for link in page.all("a")} <= {f"#{name}" for name in ids}


def test_nothing_is_loaded_and_only_the_own_script_may_run(content: PageInput) -> None:
    html = to_html(content)
    page = Parsed(html)
    assert [attributes for attributes in page.all("script") if attributes] == []
    assert len(page.all("script")) == 1
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
    names = {name for _, attributes in page.elements for name in attributes}
    assert not names & {"src", "srcset", "action", "onerror", "onclick", "onload"}
    assert not re.search(r"https?://|url\(|@import|<link", html)


def test_a_review_cannot_inject_html(content: PageInput) -> None:
    html = to_html(content)
    assert "<img" not in html
    assert html.count("<script") == 1
    assert " ".join(HOSTILE.split()) in Parsed(html).text


def test_equal_content_gives_an_equal_page(content: PageInput, folder: Folder) -> None:
    assert to_html(content) == to_html(page_input(folder))


def test_exactly_the_disputed_reviews_are_listed(content: PageInput) -> None:
    answers = [
        dict(zip(arm.predictions["review_id"], arm.predictions["predicted"], strict=True))
        for arm in content.arms
        if arm.kind != "majority"
    ]
    disputed = [review for review in answers[0] if len({given[review] for given in answers}) > 1]
    assert 0 < len(disputed) < 120
    assert [row.review_id for row in disagreements(content.arms, content.texts)] == disputed
    page = Parsed(to_html(content))
    assert sum("data-l" in attributes for attributes in page.all("tr")) == len(disputed)
    assert f"give different answers to {len(disputed)} reviews of 120 (majority takes no part)" in page.text


def test_texts_can_be_left_out(content: PageInput) -> None:
    with_texts, without = (to_html(one) for one in (content, replace(content, texts={})))
    some = next(row.text for row in disagreements(content.arms, content.texts) if "<" not in row.text)
    assert some in with_texts
    assert some not in without
    assert "The texts of the reviews are left out" in without


def test_the_confusion_matrix_is_counted_from_the_predictions(content: PageInput) -> None:
    finetuned = next(arm for arm in content.arms if arm.kind == "finetuned")
    counts = Counter(zip(finetuned.predictions["label"], finetuned.predictions["predicted"], strict=True))
    text = Parsed(to_html(content)).text
    for number, label in enumerate(content.comparison.labels, 1):
        row = [counts[label, other] for other in content.comparison.labels]
        shown = " ".join([f"{number} {label}", *(str(count) for count in row if count)])
        assert shown.replace(" ", "") in text.replace(" ", "")


def test_tables_have_headers_and_charts_have_names(content: PageInput) -> None:
    page = Parsed(to_html(content))
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    charts = [attributes for attributes in page.all("svg") if "aria-hidden" not in attributes]
    assert len(charts) == 3
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_enough_contrast(content: PageInput, theme: str) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1."""
    html = to_html(content)
    style = html[html.index("<style>") : html.index("</style>")]
    dark = " ".join(re.findall(r"prefers-color-scheme: dark\) \{(.*?)\} \}", style, re.DOTALL))
    light = re.sub(r"@media \(prefers-color-scheme: dark\) \{.*?\} \}", "", style, flags=re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w+)", light))
    colours |= dict(re.findall(r"--([\w-]+): (#\w+)", dark)) if theme == "dark" else {}
    pairs = [(name, ground) for name in ("text", "soft", "bar", "fine", "problem") for ground in ("card", "ground")]
    pairs += [(level, f"{level}-bg") for level in ("fine", "notice", "problem", "unknown")]
    pairs += [("on", f"a{number}") for number in range(1, 9)]
    low = {pair: ratio for pair in pairs if (ratio := contrast(colours[pair[0]], colours[pair[1]])) < 4.5}
    assert low == {}


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_a_page_of_2000_reviews_is_small_and_quickly_written(tmp_path: Path) -> None:
    """With 25 labels, some of them long, and 8 arms."""
    labels = [f"label {number} {'with a rather long name' if number % 3 == 0 else ''}".strip() for number in range(25)]
    plans = {**PLANS, "few_shot_retrieved": ArmPlan("prompt", 0.75, 0.12), "other": ArmPlan("prompt", 0.8, 9.5)}
    content = page_input(write_comparison(tmp_path, labels, 2000, plans=plans))
    start = time.perf_counter()
    html = to_html(content)
    assert time.perf_counter() - start < 10  # measured: 0.4 s on an idle core
    assert len(html.encode()) < 1_500_000
    Parsed(html)


def test_arms_without_confidence_cost_or_usable_answers(tmp_path: Path) -> None:
    plans = {
        "zero_shot": ArmPlan("prompt", 0.0, None, confident=False),
        "finetuned": ArmPlan("finetuned", 0.9, None, confident=False),
    }
    page = Parsed(to_html(page_input(write_comparison(tmp_path, ["a", "b", "c"], 40, plans=plans))))
    assert "No price is known for any arm" in page.text
    assert "No confidence is known of: zero_shot, finetuned" in page.text


def test_arms_that_agree_on_everything(tmp_path: Path) -> None:
    plans = {"zero_shot": ArmPlan("prompt", 2.0, 0.1), "finetuned": ArmPlan("finetuned", 2.0, 0.1)}
    page = Parsed(to_html(page_input(write_comparison(tmp_path, ["a", "b", "c"], 40, plans=plans))))
    assert "There is no such review." in page.text
    assert "undecided between finetuned and zero_shot" in page.text


def test_without_a_fine_tuned_arm(tmp_path: Path) -> None:
    plans = {name: plan for name, plan in PLANS.items() if plan.kind != "finetuned"}
    page = Parsed(to_html(page_input(write_comparison(tmp_path, ["a", "b", "c"], 60, plans=plans, first="zero_shot"))))
    assert "few_shot" in page.text
    assert "the last columns compare" not in page.text
