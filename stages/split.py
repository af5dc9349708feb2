"""Stage split: data/labeled.csv -> data/splits/{train,valid,test}.csv, manifest.json.  Run: dvc repro split"""

from pathlib import Path

from reviewtune.core.config_loading import load_params
from reviewtune.core.entry_point import run_stage
from reviewtune.data.reviews import read_reviews
from reviewtune.data.splits import split, write_splits


def main() -> None:
    config, source = load_params(), Path("data/labeled.csv")
    splits = split(read_reviews(source), config.split, train_size=config.data.train_size)
    write_splits(splits, Path("data/splits"), source=source, settings=config.split)


if __name__ == "__main__":
    run_stage(main, __doc__)
