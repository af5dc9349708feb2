"""Stage split: data/labeled.csv -> data/splits/{train,valid,test}.csv, manifest.json.  Run: dvc repro split"""

from reviewtune.core.config.loading import load_params
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.entry_point import run_stage
from reviewtune.data.preparation import write_splits


def main() -> None:
    paths = ProjectPaths()
    write_splits(load_params(), paths.labeled, paths.splits)


if __name__ == "__main__":
    run_stage(main, __doc__)
