"""A sweep's ranking for people: the terminal's table, Markdown, a CSV table, and names for the MLflow UI."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reviewtune.core.formatting import markdown_table
from reviewtune.sweeps.ranking import Row

if TYPE_CHECKING:
    import pandas as pd

SWEEPS = Path("reports/sweeps")
CAUTION = "The best was picked on these same test reviews, so its number flatters a little; fresh reviews tell."
COMPARED = 10  # of the best, on the UI's compare page: more columns than that nobody reads
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
    """Where the tables and pictures of the sweep with this key stand, in the project."""
    return SWEEPS / run_key.removeprefix("sweep:")[:8]


def name_of(variant: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in variant.items()) or "as configured"


def run_name(row: Row, variant: Mapping[str, str]) -> str:
    """A job's name once its sweep is ranked, such as "#2 71.5 % (−6.7) prompt=short n_epochs=1".

    The result first: MLflow's table of runs shows some twenty characters.
    """
    behind = f" ({_points(row.behind.value)})" if row.behind else " (best)" if row.rank == 1 else ""
    return f"#{row.rank} {100 * row.accuracy.value:.1f} %{behind} {name_of(variant)}"


def verdict_line(rows: Sequence[Row]) -> str:
    """Who won, and by how much."""
    best, *others = rows
    said = f"best: {name_of(best.variant)} with {100 * best.accuracy.value:.1f} % right"
    if not others or others[0].behind is None:
        return f"{said}."
    second = others[0]
    assert second.behind is not None
    # 0 -: without a minus before zero
    lead, low, high = (100 * (0 - value) for value in (second.behind.value, second.behind.high, second.behind.low))
    sure = "better than" if second.verdict == "worse" else "undecided against"
    bounds = f"{lead:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}".replace("-", "−")
    return f"{said}; {sure} the next, {name_of(second.variant)} ({bounds})."


def show(rows: Sequence[Row], failed: Sequence[tuple[str, str]] = ()) -> None:
    """The ranked table on the terminal, below it the failed jobs with their messages."""
    from rich.console import Console
    from rich.table import Table

    if rows:
        cells = [_cells(row) for row in rows]
        table = Table(title="sweep, best first")
        for key in _shown(cells):
            table.add_column(COLUMNS[key], justify="left" if key == "variant" else "right", overflow="fold")
        for line in cells:
            table.add_row(*(line[key] for key in _shown(cells)))
        Console().print(table)
        print(verdict_line(rows), CAUTION, sep="\n")
    for name, message in failed:
        print(f"failed: {name}: {message}")


def to_markdown(rows: Sequence[Row], failed: Sequence[tuple[str, str]] = (), side_by_side: str = "") -> str:
    """The same for a file, and for the run's description in the MLflow UI, there with a link to its compare page."""
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
    """A job's place in its sweep, for its description."""
    cells = _cells(row)
    against = "the best" if row.rank == 1 else cells["behind"].replace("] ", "] points against the best: ")
    jobs = f", the mean of {cells['jobs']} jobs" if len(row.results) > 1 else ""
    return f"Place {row.rank} of {variants}: {cells['accuracy']} % right{jobs}; {against}."


def table_of(rows: Sequence[Row]) -> "pd.DataFrame":
    """One row a variant, numbers unrounded but for six digits."""
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
    against = f"{_points(behind.value)} [{_points(behind.low)}, {_points(behind.high)}] " if behind else ""
    return {
        "rank": str(row.rank),
        "variant": name_of(row.variant),
        "jobs": str(len(row.results)),
        "accuracy": f"{100 * accuracy.value:.1f} [{100 * accuracy.low:.1f}, {100 * accuracy.high:.1f}]",
        "spread": "" if row.spread is None else f"{100 * row.spread:.1f}",
        "behind": f"{against}{row.verdict}" if behind else "best" if row.rank == 1 else "other test reviews",
        "f1": f"{100 * row.f1:.1f}",
        "valid_loss": "" if math.isnan(loss) else f"{loss:.3f}",
        "cost": "" if row.cost_per_1k is None else f"{row.cost_per_1k:.4f}",
    }


def _shown(cells: Sequence[Mapping[str, str]]) -> list[str]:
    """The columns that say something: no `jobs` where every variant ran once, no price where nothing is billed."""
    dull = {"jobs"} if all(line["jobs"] == "1" for line in cells) else set()
    return [key for key in COLUMNS if key not in dull and any(line[key] for line in cells)]


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")
