"""The ranking of a sweep for people: a table for the terminal, Markdown, a CSV table, and names for the MLflow UI."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from reviewtune.core.formatting import markdown_table, points, with_interval
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.tables import Column, FittedTable
from reviewtune.evaluation.metrics.significance import Interval
from reviewtune.sweeps.job import label_of
from reviewtune.sweeps.ranking import Row, are_free

if TYPE_CHECKING:
    import pandas as pd

SWEEPS = ProjectPaths().reports / "sweeps"
CAUTION = "The best was chosen on these same validation reviews, so its accuracy here is a little optimistic."
INFORMATION = "for information: do not choose by these"
COMPARED = 10  # best variants on the UI's compare page; more columns are hard to read
COLUMNS = {
    "rank": "#",
    "variant": "variant",
    "jobs": "jobs",
    "accuracy": "validation %",
    "spread": "± seeds",
    "behind": "behind the best",
    "macro_f1": "macro F1 %",
    "valid_loss": "validation loss",
    "cost": "$ per 1,000",
    "yardstick": "$ per 1,000 at gpt-4o-mini",
    "test": "test % (for information)",
}
WORDS = ("variant", "behind")  # columns whose cells may wrap
SPARE = {"macro_f1": 3, "valid_loss": 2, "cost": 1, "yardstick": 1}
"""Columns that are left out on a narrow terminal, the highest number first; ranked.md has all."""


@dataclass(frozen=True)
class OnTest:
    """What is known of the test split at the end of a sweep.

    Args:
        scores: accuracies to show, by run id: the winner's, or those of all jobs.
        reviews: number of test reviews; 0 if there is no score.
        asked: jobs of this sweep whose models were asked about the test split, by this or an earlier command.
        for_all: all jobs' scores were requested.
        fault: why the winner has no score; empty if it has one.
    """

    scores: Mapping[str, Interval] = field(default_factory=dict)
    reviews: int = 0
    asked: int = 0
    for_all: bool = False
    fault: str = ""


NOT_ASKED = OnTest()


def reports_of(run_key: str) -> Path:
    """The folder with the tables and pictures of the sweep with this key, relative to the project."""
    return SWEEPS / run_key.removeprefix("sweep:")[:8]


def run_name(row: Row, variant: Mapping[str, str]) -> str:
    """The name of a job's run once its sweep is ranked, such as "#2 71.5 % (−6.7) prompt=short n_epochs=1".

    The result comes first, because MLflow's table of runs shows about twenty characters.
    """
    behind = f" ({points(row.behind.value)})" if row.behind else " (best)" if row.rank == 1 else ""
    return f"#{row.rank} {100 * row.accuracy.value:.1f} %{behind} {label_of(variant)}"


def verdict_line(rows: Sequence[Row]) -> str:
    """Which variant won, and by how much."""
    best, *others = rows
    winner = f"best on the validation split: {label_of(best.variant)} with {100 * best.accuracy.value:.1f} % right"
    if not others or others[0].behind is None:
        return f"{winner}."
    second, behind = others[0], others[0].behind
    # 0 - value: never a minus before zero
    lead, low, high = (points(0 - value) for value in (behind.value, behind.high, behind.low))
    verdict = "better than" if second.verdict == "worse" else "undecided against"
    bounds = f"{lead} points, 95 % interval {low} to {high}"
    return f"{winner}; {verdict} the next, {label_of(second.variant)} ({bounds})."


def on_test_line(rows: Sequence[Row], on_test: OnTest) -> str:
    """The winner's accuracy on the test split, and what that split was used for."""
    winner = rows[0].results[0]
    name = label_of(winner.variant)
    score = on_test.scores.get(winner.run_id)
    if score is None:
        return f"test split: the winner, {name}, was not asked: {on_test.fault}"
    used = "the test split was used for this one variant only"
    if on_test.asked > 1:
        used = f"the test split was used for {on_test.asked} jobs of this sweep, {INFORMATION}"
    return f"test split: the winner, {name}, has {with_interval(score)} of {on_test.reviews} reviews right; {used}."


def to_text(rows: Sequence[Row], failed: Sequence[tuple[str, str]] = (), on_test: OnTest = NOT_ASKED) -> str:
    """The ranked table, as wide as the terminal, and below it the failed jobs with their messages."""
    from rich.box import HEAVY_HEAD
    from rich.console import Console

    parts = []
    if rows:
        cells = [_cells(row, on_test) for row in rows]
        shown = _shown(cells, free=are_free(rows))
        columns = [Column(COLUMNS[key], right=key not in WORDS, spare=SPARE.get(key, 0)) for key in shown]
        table = FittedTable(*columns, title=f"sweep, best first, by {_reviews(rows)}", box=HEAVY_HEAD)
        for line in cells:
            table.add_row(*(line[key] for key in shown))
        text = io.StringIO()
        Console(file=text).print(table)
        parts += [text.getvalue().rstrip("\n"), verdict_line(rows), CAUTION, on_test_line(rows, on_test)]
    parts += [f"failed: {name}: {message}" for name, message in failed]
    return "\n".join(parts)


def to_markdown(
    rows: Sequence[Row],
    failed: Sequence[tuple[str, str]] = (),
    side_by_side: str = "",
    on_test: OnTest = NOT_ASKED,
) -> str:
    """The same as Markdown, for a file and for the run's description in the MLflow UI.

    Args:
        rows: the ranking.
        failed: the failed jobs, each with its message.
        side_by_side: a link to the UI's compare page; empty for none.
        on_test: the scores on the test split.
    """
    parts = []
    if rows:
        cells = [_cells(row, on_test) for row in rows]
        keys = _shown(cells, free=are_free(rows))
        head, body = [COLUMNS[key] for key in keys], [[line[key] for key in keys] for line in cells]
        table = markdown_table(head, body, right_aligned=False)
        link = f"[The best {min(len(rows), COMPARED)} side by side]({side_by_side})" if side_by_side else ""
        parts += [f"**{verdict_line(rows)}**", on_test_line(rows, on_test), *filter(None, [link]), table]
        parts += [f"Ranked by {_reviews(rows)}. {CAUTION}"]
    if failed:
        parts.append("\n".join(["Failed:", "", *(f"- {name}: {message}" for name, message in failed)]))
    return "\n\n".join(parts) + "\n"


def in_words(row: Row, variants: int) -> str:
    """The description of a job: its place in the sweep."""
    cells = _cells(row)
    against = "the best" if row.rank == 1 else cells["behind"].replace("] ", "] points against the best: ")
    jobs = f", the mean of {cells['jobs']} jobs" if len(row.results) > 1 else ""
    return f"Place {row.rank} of {variants}: {cells['accuracy']} % right on the validation split{jobs}; {against}."


def table_of(rows: Sequence[Row], on_test: OnTest = NOT_ASKED) -> "pd.DataFrame":
    """One row per variant; numbers have six decimals."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "rank": row.rank,
                **row.variant,
                "jobs": len(row.results),
                **row.accuracy.named("validation_accuracy"),
                "spread": row.spread,
                "behind": row.behind.value if row.behind else None,
                "behind_low": row.behind.low if row.behind else None,
                "behind_high": row.behind.high if row.behind else None,
                "verdict": row.verdict,
                "validation_macro_f1": row.mean("macro_f1"),
                **_test_columns(row, on_test),
                "train_loss": row.mean("train_loss"),
                "valid_loss": row.mean("valid_loss"),
                "training_reviews": row.mean("training_reviews"),
                "trained_tokens": row.mean("trained_tokens"),
                "cost_per_1k": row.cost_per_1k,
                "cost_per_1k_at_gpt_4o_mini": row.cost_per_1k_at_gpt_4o_mini,
                "model": " ".join(result.model for result in row.results),
                "mlflow_run_id": " ".join(result.run_id for result in row.results),
            }
            for row in rows
        ]
    ).round(6)


def _reviews(rows: Sequence[Row]) -> str:
    """What the rows are ranked by."""
    sizes = sorted({len(result.correct) for row in rows for result in row.results})
    return f"the accuracy on {' or '.join(map(str, sizes))} validation reviews"


def _test_scores(row: Row, on_test: OnTest) -> list[Interval]:
    return [score for result in row.results if (score := on_test.scores.get(result.run_id))]


def _test_columns(row: Row, on_test: OnTest) -> dict[str, float | None]:
    """The mean over the jobs that were asked, with an interval if it is one."""
    scores = _test_scores(row, on_test)
    return {
        "test_accuracy": sum(score.value for score in scores) / len(scores) if scores else None,
        "test_accuracy_low": scores[0].low if len(scores) == 1 else None,
        "test_accuracy_high": scores[0].high if len(scores) == 1 else None,
    }


def _test_cell(row: Row, on_test: OnTest) -> str:
    scores = _test_scores(row, on_test) if on_test.for_all else []
    if len(scores) == 1:
        return with_interval(scores[0]).replace(" %", "")
    return f"{100 * sum(score.value for score in scores) / len(scores):.1f}" if scores else ""


def _cells(row: Row, on_test: OnTest = NOT_ASKED) -> dict[str, str]:
    accuracy, behind, loss = row.accuracy, row.behind, row.mean("valid_loss")
    against = f"{points(behind.value)} [{points(behind.low)}, {points(behind.high)}] " if behind else ""
    return {
        "rank": str(row.rank),
        "variant": label_of(row.variant),
        "jobs": str(len(row.results)),
        "accuracy": f"{100 * accuracy.value:.1f} [{100 * accuracy.low:.1f}, {100 * accuracy.high:.1f}]",
        "spread": "" if row.spread is None else f"{100 * row.spread:.1f}",
        "behind": f"{against}{row.verdict}" if behind else "best" if row.rank == 1 else "other validation reviews",
        "macro_f1": f"{100 * row.mean('macro_f1'):.1f}",
        "valid_loss": "" if math.isnan(loss) else f"{loss:.3f}",
        "cost": _usd(row.cost_per_1k),
        "yardstick": _usd(row.cost_per_1k_at_gpt_4o_mini),
        "test": _test_cell(row, on_test),
    }


def _usd(cost: float | None) -> str:
    return "" if cost is None else f"{cost:.4f}"


def _shown(cells: Sequence[Mapping[str, str]], *, free: bool) -> list[str]:
    """The columns with content; without `jobs` if every variant ran once, and costs at one kind of prices."""
    hidden = {"cost" if free else "yardstick"} | ({"jobs"} if all(line["jobs"] == "1" for line in cells) else set())
    return [key for key in COLUMNS if key not in hidden and any(line[key] for line in cells)]
