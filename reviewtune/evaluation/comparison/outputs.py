"""The files that stage `compare` leaves in reports/: computed by `outputs_of`, written by `write_outputs`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reviewtune.core.atomic_files import write_bytes, write_text
from reviewtune.core.result_file import write_result
from reviewtune.evaluation import plots
from reviewtune.evaluation.comparison.compare import Arm
from reviewtune.evaluation.comparison.comparison_file import COMPARISON_FILE, ArmRow, Comparison
from reviewtune.evaluation.comparison.confidence_report import coverage_table
from reviewtune.evaluation.comparison.markdown_report import to_markdown

if TYPE_CHECKING:
    import pandas as pd

MARKDOWN_FILE = "comparison.md"


@dataclass(frozen=True)
class Outputs:
    """The content of all files. Tables and pictures are named as their files."""

    comparison: Comparison
    markdown: str
    tables: "Mapping[str, pd.DataFrame]"
    pictures: Mapping[str, bytes]


def outputs_of(comparison: Comparison, arms: Sequence[Arm]) -> Outputs:
    """Compute the content of all files.

    Args:
        comparison: the result of `compare`.
        arms: the arms that were compared.
    """
    coverage = coverage_table({arm.name: arm.predictions for arm in arms})
    return Outputs(
        comparison=comparison,
        markdown=to_markdown(comparison),
        tables={
            "comparison.csv": arm_table(comparison),
            "coverage.csv": coverage,
            "per_label.csv": label_table(arms),
        },
        pictures=_pictures(comparison, arms, coverage),
    )


def write_outputs(outputs: Outputs, folder: Path) -> list[Path]:
    """Write all files and return their paths."""
    write_result(outputs.comparison, folder / COMPARISON_FILE)
    write_text(outputs.markdown, folder / MARKDOWN_FILE)
    for name, table in outputs.tables.items():
        write_text(table.to_csv(index=False, lineterminator="\n"), folder / name)
    for name, picture in outputs.pictures.items():
        write_bytes(picture, folder / name)
    return [folder / name for name in (COMPARISON_FILE, MARKDOWN_FILE, *outputs.tables, *outputs.pictures)]


def arm_table(comparison: Comparison) -> "pd.DataFrame":
    """One row per arm, for DVC's plots: its accuracy with low and high, F1, cost and speed."""
    import pandas as pd

    rows = [
        {
            "arm": arm.arm,
            "kind": arm.kind,
            "accuracy": arm.accuracy.value,
            "low": arm.accuracy.low,
            "high": arm.accuracy.high,
            "f1": arm.f1,
            "macro_f1": arm.macro_f1,
            "cost_per_1k": arm.cost_per_1k,
            "reviews_per_second": arm.reviews_per_second,
        }
        for arm in comparison.arms
    ]
    return pd.DataFrame(rows)


def label_table(arms: Sequence[Arm]) -> "pd.DataFrame":
    """One row per arm and label, for DVC's plots: arm, label, support, predicted, precision, recall, f1."""
    import pandas as pd

    rows = pd.concat([arm.per_label.assign(arm=arm.name) for arm in arms], ignore_index=True)
    return rows[["arm", *arms[0].per_label.columns]]


def arm_points(comparison: Comparison) -> list[plots.ArmPoint]:
    """Each arm's accuracy and cost, at gpt-4o-mini's prices if the arms' own provider charges nothing."""
    return [_point(arm, free=comparison.is_free) for arm in comparison.arms]


def _pictures(comparison: Comparison, arms: Sequence[Arm], coverage: "pd.DataFrame") -> dict[str, bytes]:
    """File name -> PNG."""
    points = arm_points(comparison)
    reliability = {
        name: [(interval.confidence, interval.accuracy.value) for interval in report.reliability]
        for name, report in comparison.confidence.items()
    }
    return {
        "accuracy.png": plots.accuracy_bars(points),
        "calibration.png": plots.calibration(reliability, coverage),
        "accuracy_against_cost.png": plots.accuracy_against_cost(
            points, prices="gpt-4o-mini's prices" if comparison.is_free else None
        ),
        "f1_per_label.png": plots.per_label_f1({arm.name: arm.per_label for arm in arms}),
    }


def _point(arm: ArmRow, *, free: bool) -> plots.ArmPoint:
    cost = arm.cost_per_1k_at_gpt_4o_mini if free else arm.cost_per_1k
    return plots.ArmPoint(
        name=arm.arm,
        kind=arm.kind,
        accuracy=arm.accuracy,
        cost_per_1k=None if arm.kind == "linear" else cost,
    )
