"""Stage baseline@ARM: data/splits/{train,test}.csv -> reports/arms/ARM/.  Run: dvc repro baseline@zero_shot"""

from pathlib import Path

from reviewtune import evaluation
from reviewtune.arms import evaluate_arm
from reviewtune.config import load_params
from reviewtune.dataset import read_reviews
from reviewtune.lineage import describe_run
from reviewtune.stage import run_stage
from reviewtune.tracking import open_run

SPLITS = Path("data/splits")


def main(arm: str) -> None:
    config, folder = load_params(), Path("reports/arms") / arm
    config.refuse_unknown_arm(arm)
    train, test = read_reviews(SPLITS / "train.csv"), read_reviews(SPLITS / "test.csv")
    with open_run(config.tracking, name=arm, kind="evaluation", tags={}) as run:
        sections, inputs = ("data", "split", f"arms.{arm}"), {"train": "training", "test": "evaluation"}
        describe_run(run, config, sections=sections, inputs=inputs)
        result = evaluate_arm(arm, config, train, test, manifest=SPLITS / "manifest.json")
        evaluation.write(result, folder)
        evaluation.log(run, result, folder)
        evaluation.write_run(result, folder, run.id)


if __name__ == "__main__":
    run_stage(main, __doc__, arm=str)
