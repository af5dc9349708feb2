"""Stage split: data/labeled.csv, data/frozen_splits.csv -> data/splits/{train,valid,test}.csv, manifest.json.

Run: dvc repro split        Keep the sides for good: reviewtune freeze-splits
"""

from reviewtune.core.config.loading import load_params
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.entry_point import run_stage
from reviewtune.data.preparation import write_splits


def main() -> None:
    paths = ProjectPaths()
    for note in write_splits(load_params(), paths.labeled, paths.splits, frozen=paths.frozen_splits):
        print(note)


if __name__ == "__main__":
    run_stage(main, __doc__)
