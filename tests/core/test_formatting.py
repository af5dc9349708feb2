"""Numbers and tables for people."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from reviewtune.core import formatting


class Share(NamedTuple):
    value: float
    low: float
    high: float


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formatting.with_interval(Share(0.8187, 0.758, 0.8666)), "81.9 % [75.8, 86.7]"),
        (formatting.counted(1, "review"), "1 review"),
        (formatting.counted(0, "unusable answer"), "0 unusable answers"),
        (formatting.counted(1200, "entry"), "1,200 entries"),
        (formatting.counted(2, "key"), "2 keys"),
        (formatting.counted(2, "batch"), "2 batches"),
        (formatting.listed(["a", "b"], shown=2), "a, b"),
        (formatting.listed(["a", "b", "c"], shown=2), "a, b and 1 more"),
        (formatting.points(0.3834), "+38.3"),
        (formatting.points(-0.0881), "−8.8"),
        (formatting.p_value(0.0004), "p < 0.001"),
        (formatting.p_value(0.043), "p = 0.043"),
        (formatting.money(None), "–"),
        (formatting.money(0), "$0.00"),
        (formatting.money(0.0253), "$0.0253"),
        (formatting.money(26.418), "$26.42"),
        (formatting.seconds(0.254), "0.25 s"),
        (formatting.seconds(None), "–"),
        (formatting.rate(1662.2), "1,662"),
        (formatting.rate(7.48), "7.5"),
        (formatting.rate(None), "–"),
        (formatting.change(0.0494, 0.0253), "−49 %"),
        (formatting.change(0, 1), "–"),
        (formatting.times(6.2, 7.5), "1.2 x"),
        (formatting.times(None, 7.5), "–"),
    ],
)
def test_numbers(text: str, expected: str) -> None:
    assert text == expected


def test_a_markdown_table() -> None:
    rows = [["late", "3"], ["a|b", "12"]]
    assert formatting.markdown_table(["label", "reviews"], rows).splitlines() == [
        "| label | reviews |",
        "|---|---:|",
        "| late | 3 |",
        "| a\\|b | 12 |",
    ]
    assert formatting.markdown_table(["a", "b"], [], right_aligned=False) == "| a | b |\n|---|---|"


NOUNS = (
    "answer combination example fault file folder job label line pair prediction row review run step text token trial"
)
PLURAL = re.compile(rf" (?:[a-z-]+ ){{0,2}}(?:{'|'.join(NOUNS.split())})s\b")
LIBRARY = Path(formatting.__file__).parent.parent
OTHER_WORDS = ("local_server", "metrics")  # the server may not import `counted`; faults of callers


def unchecked_plurals(source: str) -> list[str]:
    """Numbers of things in f-strings that would read "1 reviews" or "1 review(s)"."""
    strings = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.JoinedStr)]
    pairs = [pair for node in strings for pair in zip(node.values, node.values[1:], strict=False)]
    return [
        f"{{{ast.unparse(number.value)}}}{text.value!s}"
        for number, text in pairs
        if isinstance(number, ast.FormattedValue) and isinstance(text, ast.Constant)
        if "(s)" in str(text.value) or (ast.unparse(number.value).startswith("len(") and PLURAL.match(str(text.value)))
    ]


SOURCES = sorted([*LIBRARY.rglob("*.py"), *(LIBRARY.parent / "stages").glob("*.py")])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(LIBRARY.parent).as_posix())
def test_numbers_of_things_agree_with_their_nouns(path: Path) -> None:
    if not set(OTHER_WORDS) & set(path.parts):
        assert unchecked_plurals(path.read_text(encoding="utf-8")) == []


def test_unchecked_plurals_are_recognised() -> None:
    faulty = """f"{len(a)} reviews", f"{n} row(s)", f"{len(a)} of {len(b)} broken files" """
    assert len(unchecked_plurals(faulty)) == 3
    source = """f"{counted(n, 'row')} of {len(x)}" """
    assert unchecked_plurals(source) == []
