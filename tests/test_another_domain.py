"""docs/another_domain.md: its commands and its code, read from the page and run in a clone."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.support.clones import Clone

pytestmark = pytest.mark.pipeline
PROJECT = Path(__file__).parent.parent
PAGE = (PROJECT / "docs" / "another_domain.md").read_text(encoding="utf-8")
TICKETS, KOREAN = PAGE.split("\n## ")[1:]
WHOLE = (("train_size: 66", "train_size: all"), ("test: 0.06", "test: 0.25"), ("validation: 0.08", "validation: 0.2"))
LAST_ARM = r"      - (zero_shot|few_shot|few_shot_cot)\n"


def blocks(section: str, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def run_block(clone: Clone, block: str) -> str:
    """Run each line of a block; returns all that was printed."""
    return "".join(run_words(clone, line) for part in block.splitlines() for line in part.split(" && "))


def run_words(clone: Clone, line: str) -> str:
    words = shlex.split(line)
    if words[:2] == ["git", "add"]:
        return ""  # the commit adds everything
    if words[0] == "git":
        clone.commit("as the page says")
        return ""
    if words == ["make", "params"]:
        words = ["python", "stages/check_config.py", "--write"]
    return clone.run(*(["python", "-m", *words] if words[0] == "reviewtune" else words))


@pytest.fixture
def whole(project: Path, tmp_path: Path) -> Clone:
    """A clone with all reviews and the page's two arms."""
    clone = Clone.of(project, tmp_path / "project", Path("no-model"))
    clone.home.mkdir(exist_ok=True)
    clone.env["PYTHONPATH"] = str(clone.folder)
    for shrunk, usual in WHOLE:
        clone.edit("conf/config.yaml", shrunk, usual)
    clone.edit("conf/config.yaml", LAST_ARM, "")
    clone.edit("conf/evaluation/default.yaml", "reference: zero_shot", "reference: majority")
    return clone


def test_the_tickets_are_described_as_the_page_shows(whole: Clone) -> None:
    first, *_ = blocks(TICKETS, "bash")
    shown = [" ".join(line.split()) for line in run_block(whole, first).splitlines()]
    expected = blocks(TICKETS, "")[0]
    assert [line for part in expected.splitlines() if (line := " ".join(part.split())) and line not in shown] == []
    path = whole.folder / "conf/data/tickets.yaml"
    described = yaml.safe_load(path.read_text(encoding="utf-8"))
    (meanings,) = blocks(TICKETS, "yaml")
    assert described["labels"].keys() == yaml.safe_load(meanings)["labels"].keys()
    path.write_text(yaml.safe_dump({**described, **yaml.safe_load(meanings)}), encoding="utf-8")
    whole.edit("conf/config.yaml", "data: reviews_en", "data: tickets")
    params, _ = blocks(TICKETS, "bash")[1].splitlines()
    run_words(whole, params)


def test_korean_gains_and_english_loses_what_the_page_says(whole: Clone) -> None:
    whole.edit("conf/promotion/default.yaml", "name: null", "name: reviews")
    english, split, both = blocks(KOREAN, "bash")
    join, by_language = blocks(KOREAN, "python")
    said = run_block(whole, english)
    whole.run("python", "-c", join)
    path = whole.folder / "conf/data/reviews_en.yaml"
    described = path.read_text(encoding="utf-8").replace("reviews_en", "reviews_en_ko")
    path.with_name("reviews_en_ko.yaml").write_text(described, encoding="utf-8")
    whole.edit("conf/config.yaml", "data: reviews_en", "data: reviews_en_ko")
    said += run_block(whole, split) + run_block(whole, both)
    for line in (line.strip() for shown in blocks(KOREAN, "") for line in shown.splitlines()):
        assert re.sub(r"\s+", " ", line) in re.sub(r"[^\S\n]+", " ", said), said
    counts = re.findall(
        r"^(?:en|ko) +(\d+) +(\d+) +(\d+) +(\d+)$", whole.run("python", "-c", by_language), re.MULTILINE
    )
    table = re.findall(r"^\| (?:English|Korean) \| (\d+) \| (\d+) [^|]+\| (\d+) ", KOREAN, flags=re.MULTILINE)
    assert [(size, before, after) for size, before, _, after in counts] == table
