"""The command `freeze-splits`: keep the sides of the project's splits for good."""

import os

from reviewtune.core.config.loading import load_params
from reviewtune.core.formatting import counted, with_counts
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.data.frozen_splits import FreezeSummary, freeze


def freeze_splits() -> None:
    """Freeze, and print what was frozen.

    Raises:
        ConfigError: params.yaml is wrong.
        DataError: as `frozen_splits.freeze`.
    """
    paths = ProjectPaths(project_root())
    print(to_text(freeze(paths, load_params(paths.params))))


def to_text(summary: FreezeSummary) -> str:
    """What was frozen, in a few lines."""
    new = sum(summary.newly_frozen.values())
    by_side = f" ({with_counts(summary.newly_frozen)})" if new else ""
    lines = [
        f"{counted(new, 'review')} newly frozen{by_side}; {summary.kept:,} of this data set were frozen before",
        f"{os.path.relpath(summary.path)}: {counted(summary.total, 'review')}; commit this file",
        *(f"note: {note}" for note in summary.notes),
    ]
    return "\n".join(lines)
