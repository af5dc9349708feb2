"""Tables on terminals of any width: no word and no number is cut in two."""

from io import StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich import box
from rich.cells import cell_len
from rich.console import Console

from reviewtune.core.terminal.tables import Column, FittedTable

WORDS = st.text(st.sampled_from("abcdefg=._-0123456789한글%"), min_size=1, max_size=24)
TEXTS = st.lists(WORDS, min_size=0, max_size=6).map(" ".join)


def printed(table: FittedTable, width: int) -> str:
    text = StringIO()
    Console(file=text, width=width).print(table)
    return text.getvalue()


def words_of(text: str) -> list[str]:
    return "".join(" " if character in "┃│┏┓┡┩└┘━┳╇┴─" else character for character in text).split()


@settings(max_examples=200)
@given(
    rows=st.lists(st.lists(TEXTS, min_size=3, max_size=3), min_size=1, max_size=4),
    width=st.integers(30, 120),
    frame=st.sampled_from([None, box.HEAVY_HEAD, box.SIMPLE_HEAD]),
    header=st.booleans(),
)
def test_every_word_is_shown_whole(rows: list[list[str]], width: int, frame: box.Box | None, header: bool) -> None:
    table = FittedTable("first", Column("the second", right=True), "third", box=frame, header=header)
    for row in rows:
        table.add_row(*row)
    text = printed(table, width)
    assert all(cell_len(line) <= width for line in text.splitlines())
    shown = words_of(text)
    for word in " ".join(cell for row in rows for cell in row).split():
        assert word in shown or f"{word}:" in shown


def test_numbers_are_not_wrapped_and_spare_columns_go_first() -> None:
    table = FittedTable(
        "arm", Column("accuracy %", right=True), Column("per s", right=True, spare=2), Column("F1", right=True, spare=1)
    )
    table.add_row("zero_shot with many words", "50.0 [43.1, 56.9]", "12.0", "49.5")
    for width, headings in ((60, {"per", "F1"}), (40, {"F1"}), (33, set[str]())):
        text = printed(table, width)
        assert "50.0 [43.1, 56.9]" in text
        assert {"per", "F1"} & set(words_of(text)) == headings


def test_a_terminal_that_is_too_narrow_gets_a_block_per_row() -> None:
    table = FittedTable("model", "answers", box=box.HEAVY_HEAD, title="a title")
    for number in ("1", "2"):
        table.add_row(f"ft:base:team:name:{number}", number)
    assert [line.rstrip() for line in printed(table, 30).splitlines()] == [
        "a title",
        *("model: ft:base:team:name:1", "answers: 1", ""),
        *("model: ft:base:team:name:2", "answers: 2"),
    ]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_text_of_a_cell_is_no_markup(width: int) -> None:
    table = FittedTable("label")
    table.add_row("[bold]delivery[/bold]")
    assert "[bold]delivery[/bold]" in printed(table, width)
