"""The ranking of a sweep for people: a table for the terminal, Markdown, a CSV table, and names for the MLflow UI."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reviewtune.core.formatting import markdown_table, points
from reviewtune.core.project import ProjectPaths
from reviewtune.sweeps.job import label_of
from reviewtune.sweeps.ranking import Row

if TYPE_CHECKING:
    import pandas as pd

SWEEPS = ProjectPaths().reports / "sweeps"
CAUTION = (
    "The best was chosen on these same test reviews, so its accuracy is a little optimistic; check on new reviews."
)
COMPARED = 10  # best variants on the UI's compare page; more columns are hard to read
COLUMNS = {
    "rank": "#",
    "variant": "variant",
    "jobs": "jobs",
    "accuracy": "accuracy %",
    "spread": "± seeds",
    "behind": "behind the best",
    "f1": "F1 %",
    "valid_loss": "validation loss",
    "cost": "$ per 1,000",
}


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
    winner = f"best: {label_of(best.variant)} with {100 * best.accuracy.value:.1f} % right"
    if not others or others[0].behind is None:
        return f"{winner}."
    second, behind = others[0], others[0].behind
    # 0 - value: never a minus before zero
    lead, low, high = (points(0 - value) for value in (behind.value, behind.high, behind.low))
    verdict = "better than" if second.verdict == "worse" else "undecided against"
    bounds = f"{lead} points, 95 % interval {low} to {high}"
    return f"{winner}; {verdict} the next, {label_of(second.variant)} ({bounds})."


def to_text(rows: Sequence[Row], failed: Sequence[tuple[str, str]] = ()) -> str:
    """The ranked table, as wide as the terminal, and below it the failed jobs with their messages."""
    from rich.console import Console
    from rich.table import Table

    parts = []
    if rows:
        cells = [_cells(row) for row in rows]
        table = Table(title="sweep, best first")
        for key in _shown(cells):
            table.add_column(COLUMNS[key], justify="left" if key == "variant" else "right", overflow="fold")
        for line in cells:
            table.add_row(*(line[key] for key in _shown(cells)))
        text = io.StringIO()
        Console(file=text).print(table)
        parts += [text.getvalue().rstrip("\n"), verdict_line(rows), CAUTION]
    parts += [f"failed: {name}: {message}" for name, message in failed]
    return "\n".join(parts)


def to_markdown(rows: Sequence[Row], failed: Sequence[tuple[str, str]] = (), side_by_side: str = "") -> str:
    """The same as Markdown, for a file and for the run's description in the MLflow UI.

    Args:
        rows: the ranking.
        failed: the failed jobs, each with its message.
        side_by_side: a link to the UI's compare page; empty for none.
    """
    parts = []
    if rows:
        cells = [_cells(row) for row in rows]
        keys = _shown(cells)
        head, body = [COLUMNS[key] for key in keys], [[line[key] for key in keys] for line in cells]
        table = markdown_table(head, body, right_aligned=False)
        link = f"[The best {min(len(rows), COMPARED)} side by side]({side_by_side})" if side_by_side else ""
        parts += [f"**{verdict_line(rows)}**", *filter(None, [link]), table, CAUTION]
    if failed:
        parts.append("\n".join(["Failed:", "", *(f"- {name}: {message}" for name, message in failed)]))
    return "\n\n".join(parts) + "\n"


def in_words(row: Row, variants: int) -> str:
    """The description of a job: its place in the sweep."""
    cells = _cells(row)
    against = "the best" if row.rank == 1 else cells["behind"].replace("] ", "] points against the best: ")
    jobs = f", the mean of {cells['jobs']} jobs" if len(row.results) > 1 else ""
    return f"Place {row.rank} of {variants}: {cells['accuracy']} % right{jobs}; {against}."


def table_of(rows: Sequence[Row]) -> "pd.DataFrame":
    """One row per variant; numbers have six decimals."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "rank": row.rank,
                **row.variant,
                "jobs": len(row.results),
                "accuracy": row.accuracy.value,
                "accuracy_low": row.accuracy.low,
                "accuracy_high": row.accuracy.high,
                "spread": row.spread,
                "behind": row.behind.value if row.behind else None,
                "behind_low": row.behind.low if row.behind else None,
                "behind_high": row.behind.high if row.behind else None,
                "verdict": row.verdict,
                "f1": row.f1,
                "train_loss": row.mean("train_loss"),
                "valid_loss": row.mean("valid_loss"),
                "training_reviews": row.mean("training_reviews"),
                "trained_tokens": row.mean("trained_tokens"),
                "cost_per_1k": row.cost_per_1k,
                "model": " ".join(result.model for result in row.results),
                "mlflow_run_id": " ".join(result.run_id for result in row.results),
            }
            for row in rows
        ]
    ).round(6)


def _cells(row: Row) -> dict[str, str]:
    accuracy, behind, loss = row.accuracy, row.behind, row.mean("valid_loss")
    against = f"{points(behind.value)} [{points(behind.low)}, {points(behind.high)}] " if behind else ""
    return {
        "rank": str(row.rank),
        "variant": label_of(row.variant),
        "jobs": str(len(row.results)),
        "accuracy": f"{100 * accuracy.value:.1f} [{100 * accuracy.low:.1f}, {100 * accuracy.high:.1f}]",
        "spread": "" if row.spread is None else f"{100 * row.spread:.1f}",
        "behind": f"{against}{row.verdict}" if behind else "best" if row.rank == 1 else "other test reviews",
        "f1": f"{100 * row.f1:.1f}",
        "valid_loss": "" if math.isnan(loss) else f"{loss:.3f}",
        "cost": "" if row.cost_per_1k is None else f"{row.cost_per_1k:.4f}",
    }


def _shown(cells: Sequence[Mapping[str, str]]) -> list[str]:
    """The columns with content; without `jobs` if every variant ran once."""
    hidden = {"jobs"} if all(line["jobs"] == "1" for line in cells) else set()
    return [key for key in COLUMNS if key not in hidden and any(line[key] for line in cells)]
