"""The pages agree with each other and with the files they name; both READMEs say the same; plain words are used."""

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest

PROJECT = Path(__file__).parent.parent
README, KOREAN = PROJECT / "README.md", PROJECT / "README.ko.md"
README_LINES = 110
PAGES = sorted(
    path for glob in ("*.md", "docs/*.md", "data/*.md", ".github/**/*.md") for path in PROJECT.glob(glob)
)  # written for readers of the repository; reports/*.md are results
GENERATED = ("commands.md", "configuration.md")  # `make docs` writes them from help texts, whose words are the code's
FOREIGN_WORDS = (
    r"mend(s|ed|ing)?", r"(is|are) none of", r"is no (JSON|CSV|file|model|number|arm)", r"un-?tuned", r"commoner",
    r"commonest", r"likelier", r"likeliest", r"dearest", r"foretold", r"foretells?", r"by hand", r"beside", r"goes on",
    r"go on", r"what came of", r"wished for", r"USD a review", r"a row a label",
)  # fmt: skip
"""Regular expressions of words and idioms that readers stumble over, each with a usual English alternative."""


def prose(text: str) -> str:
    """The text without code blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def code_blocks(text: str) -> list[str]:
    return re.findall(r"^```.*?^```$", text, flags=re.MULTILINE | re.DOTALL)


def headings(text: str) -> list[tuple[int, str]]:
    """Level and title of each heading, in order."""
    marked = re.findall(r"^(#{1,6}) +(.+?) *$", prose(text), flags=re.MULTILINE)
    return [(len(marks), title) for marks, title in marked]


def anchors(text: str) -> set[str]:
    """The fragments by which a page's headings can be linked, as GitHub makes them."""
    names: Counter[str] = Counter()
    result = set()
    for _, title in headings(text):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        result.add(f"{slug}-{names[slug]}" if names[slug] else slug)
        names[slug] += 1
    return result


def links(text: str) -> list[str]:
    """Targets of all Markdown links and images."""
    without_code = re.sub(r"`[^`\n]*`", lambda code: "`" * len(code[0]), prose(text))
    return re.findall(r"\]\(([^)\s]+)\)", without_code)


def broken_links(page: Path) -> list[str]:
    """Relative links of the page whose file or heading does not exist."""
    broken = []
    for link in links(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, fragment = unquote(link).partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (fragment and fragment not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


def foreign_words(text: str) -> list[str]:
    pattern = re.compile(rf"\b({'|'.join(FOREIGN_WORDS)})\b", re.IGNORECASE)
    return [match[0] for match in pattern.finditer(prose(text))]


def numbers(text: str) -> Counter[str]:
    """Numbers outside of code and link targets, such as 193, 1,000 or 2027-01-06."""
    plain = re.sub(r"\]\([^)]*\)", "]", prose(text))
    return Counter(re.findall(r"\d+(?:[.,-]\d+)*", plain))


def named_paths(text: str) -> set[str]:
    """Paths of the repository in backticks, without placeholders such as NAME."""
    pattern = r"`((?:reviewtune|stages|conf|tests|docs|tools|benchmarks|hydra_plugins)/[a-z0-9_./]*)`"
    return set(re.findall(pattern, text))


def both_readmes() -> tuple[str, str]:
    return README.read_text(encoding="utf-8"), KOREAN.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [README, KOREAN], ids=lambda page: page.name)
def test_a_readme_is_short(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) <= README_LINES


def test_both_readmes_have_the_same_headings() -> None:
    english, korean = both_readmes()
    assert [level for level, _ in headings(english)] == [level for level, _ in headings(korean)]


def test_both_readmes_have_the_same_code() -> None:
    english, korean = both_readmes()
    assert len(code_blocks(english)) == 5
    assert code_blocks(english) == code_blocks(korean)


def test_both_readmes_link_to_the_same_pages_and_pictures() -> None:
    english, korean = (Counter(links(text)) - Counter([README.name, KOREAN.name]) for text in both_readmes())
    assert english == korean


def test_both_readmes_have_the_same_table_rows() -> None:
    english, korean = (
        [line.split("|")[1] for line in prose(text).splitlines() if "|" in line] for text in both_readmes()
    )
    assert english[1:] == korean[1:]  # the first cell of the first row is the word "column"


def test_both_readmes_give_the_same_numbers() -> None:
    english, korean = (numbers(text) for text in both_readmes())
    assert english["2027-01-06"] == 1
    assert english == korean


def test_the_readmes_link_to_each_other() -> None:
    english, korean = both_readmes()
    assert KOREAN.name in links(english)
    assert README.name in links(korean)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_every_page_of_the_documentation_is_listed() -> None:
    listed = {link.partition("#")[0] for link in links((PROJECT / "docs" / "README.md").read_text(encoding="utf-8"))}
    assert {page.name for page in (PROJECT / "docs").glob("*.md")} - {"README.md"} <= listed


def test_every_path_of_the_architecture_page_exists() -> None:
    paths = named_paths((PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    assert len(paths) > 30
    assert sorted(path for path in paths if not (PROJECT / path).exists()) == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in GENERATED], ids=lambda page: str(page.relative_to(PROJECT))
)
def test_plain_words(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert foreign_words(text) == []
    assert "—" not in prose(text), "use a comma, a colon or a new sentence instead of an em dash"


@pytest.mark.parametrize(
    ("link", "is_broken"),
    [
        ("other.md", False),
        ("other.md#a-heading-with-code", False),
        ("other.md#a-heading-with-code-1", False),
        ("#here", False),
        ("https://example.org/missing.md", False),
        ("missing.md", True),
        ("other.md#missing", True),
        ("#missing", True),
        ("picture.png", True),
    ],
)
def test_a_broken_link_is_noticed(tmp_path: Path, link: str, is_broken: bool) -> None:
    heading = "# A heading, with `code`!"
    (tmp_path / "other.md").write_text(f"{heading}\n\n```\n# missing\n```\n\n{heading}\n")
    page = tmp_path / "page.md"
    page.write_text(f"# Here\n\n[text]({link}) and `[code](never.md)`\n")
    assert broken_links(page) == ([link] if is_broken else [])


@pytest.mark.parametrize(
    ("text", "noticed"),
    [
        ("Mend it by hand.", ["Mend", "by hand"]),
        ("The file is no JSON, and the job goes on.", ["is no JSON", "goes on"]),
        ("x is none of the arms", ["is none of"]),
        ("We recommend a separate amendment.", []),
        ("```\nmend\n```", []),
    ],
)
def test_a_foreign_word_is_noticed(text: str, noticed: list[str]) -> None:
    assert foreign_words(text) == noticed


def test_numbers_are_compared_as_they_are_written() -> None:
    text = "On 2027-01-06, 1,000 reviews cost 0.5 ([3](docs/4.md)).\n\n```\n5\n```\n"
    assert sorted(numbers(text)) == ["0.5", "1,000", "2027-01-06", "3"]
