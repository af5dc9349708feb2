"""Numbers and tables for people."""

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
