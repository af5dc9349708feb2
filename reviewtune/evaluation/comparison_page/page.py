"""The comparison as one HTML file: the verdict first, then every figure, and the reviews on which arms disagree.

It loads nothing. Without JavaScript everything but the search can be read.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from reviewtune.core.formatting import counted, percent, points, with_interval
from reviewtune.core.html_page import generator, render, script_hash
from reviewtune.evaluation.comparison import findings, tables
from reviewtune.evaluation.comparison.compare import Arm
from reviewtune.evaluation.comparison.comparison_file import ArmRow, Comparison
from reviewtune.evaluation.comparison.markdown_report import HOW_TO_READ, mlflow_filter
from reviewtune.evaluation.comparison.recommendation import recommendation_lines
from reviewtune.evaluation.comparison_page.chart_data import arm_charts
from reviewtune.evaluation.comparison_page.charts import colour_class, dashes
from reviewtune.evaluation.comparison_page.disagreements import SHOWN, disagreements, disputing
from reviewtune.evaluation.comparison_page.label_tables import label_rows, matrices
from reviewtune.evaluation.metrics.significance import Verdict

COMMAND = "compare --html"
GENERATOR = generator(COMMAND)
PAGE_FILE = "comparison.html"
"""Name of the copy in the comparison's MLflow run."""

SCRIPT = (Path(__file__).parent / "templates" / "search.js").read_text(encoding="utf-8")
LEVELS: dict[Verdict, str] = {"better": "fine", "worse": "problem", "undecided": "notice"}


class GateRow(NamedTuple):
    """One condition that a model must meet before it is promoted."""

    name: str
    asked: str
    seen: str
    outcome: str  # passed, failed or off


class Tile(NamedTuple):
    """A figure at the top of the page; `level` colours it."""

    value: str
    caption: str
    level: str = "unknown"


@dataclass(frozen=True)
class PageInput:
    """What the page shows.

    Attributes:
        comparison: content of comparison.json.
        arms: the compared arms.
        texts: test reviews by id; empty: the page leaves them out.
        gates: conditions for a promotion; empty: the page has no such section.
        gates_of: which model was checked by them, and what was decided.
    """

    comparison: Comparison
    arms: Sequence[Arm]
    texts: Mapping[str, str] = field(default_factory=dict)
    gates: Sequence[GateRow] = ()
    gates_of: str = ""


def to_html(content: PageInput) -> str:
    """The page; the same text for the same content."""
    comparison, arms = content.comparison, content.arms
    rows = list(disagreements(arms, content.texts))
    numbers = {arm.arm: number for number, arm in enumerate(comparison.arms, 1)}
    values = {
        "comparison": comparison,
        "generator": GENERATOR,
        "script": SCRIPT,
        "script_hash": script_hash(SCRIPT),
        "tiles": _tiles(comparison),
        "verdicts": _verdicts(comparison),
        "recommendation": recommendation_lines(comparison, bold="**"),
        "numbers": numbers,
        "arm_table": tables.arm_rows(comparison),
        "guide": tables.guide_rows(comparison),
        "response_head": tables.RESPONSE_HEAD,
        "response": tables.response_rows(comparison),
        "costs": findings.cost_lines(comparison),
        "charts": arm_charts(comparison, arms, numbers),
        "matrices": matrices(arms),
        "shown_matrix": (comparison.finetuned or comparison.reference_arm).arm,
        "labels": label_rows(arms, comparison),
        "label_lines": [*findings.never_answered_lines(comparison), *findings.label_lines(comparison)],
        "confidence_lines": findings.confidence_lines(comparison),
        "without_confidence": [arm.arm for arm in comparison.arms if arm.arm not in comparison.confidence],
        "other_lines": [*findings.prior_lines(comparison), *findings.optional_lines(comparison)],
        "disputing": [arm.name for arm in disputing(arms)],
        "rows": list(islice(rows, SHOWN)),
        "total_rows": len(rows),
        "has_texts": bool(content.texts),
        "gates": content.gates,
        "gates_of": content.gates_of,
        "how_to_read": _items(HOW_TO_READ),
        "mlflow_filter": mlflow_filter(comparison),
        "levels": LEVELS,
        "colour": colour_class,
        "dashes": dashes,
    }
    return render("reviewtune.evaluation.comparison_page", "comparison.html", values, FILTERS)


def _rich(text: str) -> str:
    """Escaped text, with Markdown's **bold**, *emphasis* and `code` as elements."""
    safe = escape(text)
    for mark, element in ((r"\*\*(.+?)\*\*", "strong"), (r"\*(.+?)\*", "em"), (r"`(.+?)`", "code")):
        safe = re.sub(mark, rf"<{element}>\1</{element}>", safe)
    return safe


def _breakable(name: str) -> str:
    """An escaped name that a narrow column may break after its underscores."""
    return escape(name).replace("_", "_<wbr>")


def _items(markdown: str) -> list[str]:
    """The items of a Markdown list, each in one line."""
    return [" ".join(item.split()) for item in markdown.strip().removeprefix("- ").split("\n- ")]


def _verdicts(comparison: Comparison) -> list[tuple[str, Verdict, str]]:
    """Level, verdict and sentence of each test that the report names; the most important one first."""
    tests = findings.reported_tests(comparison).values()
    lines = findings.verdict_lines(comparison, bold="**")
    return [(LEVELS[test.verdict], test.verdict, line) for test, line in zip(tests, lines, strict=True)]


def _tiles(comparison: Comparison) -> list[Tile]:
    base, finetuned = comparison.reference_arm, comparison.finetuned
    chosen = comparison.recommendation
    tiles = [Tile(percent(base.accuracy.value), f"{base.arm}, the reference {_bounds(base)}")]
    if finetuned and finetuned is not base:
        test = comparison.finetuned_against[base.arm]
        tiles.insert(0, Tile(percent(finetuned.accuracy.value), f"{finetuned.arm} {_bounds(finetuned)}"))
        tiles.append(Tile(points(test.difference.value), f"points: {test.verdict}", LEVELS[test.verdict]))
    if chosen and chosen.arm:
        tiles.append(Tile(chosen.arm, "recommended", "fine"))
    return tiles


def _bounds(arm: ArmRow) -> str:
    return with_interval(arm.accuracy).partition(" % ")[2].replace(" ", "\N{NO-BREAK SPACE}")  # in one piece


FILTERS: dict[str, Callable[..., str]] = {
    "rich": _rich,
    "breakable": _breakable,
    "percent": percent,
    "counted": counted,
    "interval": with_interval,
}
