"""Stage baseline@ARM: data/splits/{train,valid,test}.csv -> reports/arms/ARM/.  Run: dvc repro baseline@zero_shot"""

from reviewtune.core.config.loading import load_params
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.entry_point import run_stage
from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.data.preparation import read_splits
from reviewtune.evaluation import results
from reviewtune.evaluation.arms import evaluate_arm
from reviewtune.tracking.provenance import evaluation_run


def main(arm: str) -> None:
    config, paths = load_params(), ProjectPaths()
    config.refuse_unknown_arm(arm)
    splits, folder = paths.splits, paths.arm(arm)
    train, valid, test = read_splits(splits)
    sections = ("data", "split", f"arms.{arm}")
    inputs = {"train": "training", "valid": "validation", "test": "evaluation"}
    with evaluation_run(config, arm, sections=sections, inputs=inputs) as run:
        result = evaluate_arm(
            arm, config, train, test, manifest=splits.manifest, valid=valid, progress=TerminalProgress()
        )
        results.write(result, folder)
        results.log(run, result, folder)
        results.write_run(result, folder, run.id)


if __name__ == "__main__":
    run_stage(main, __doc__, arm=str)
