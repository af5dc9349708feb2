"""Stage checkpoint@EPOCH: data/splits/{valid,test}.csv, models/finetuned.json -> reports/arms/checkpoint_EPOCH/.

Run: dvc exp run -S 'evaluation.checkpoints=[1,2]'
"""

from reviewtune.core.config.arms import CHECKPOINT
from reviewtune.core.config.loading import load_params
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.entry_point import run_stage
from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.data.reviews import read_reviews
from reviewtune.evaluation import results
from reviewtune.evaluation.arms import evaluate_checkpoint
from reviewtune.finetuning.model_record import read_record
from reviewtune.tracking.provenance import EVALUATION_SECTIONS, evaluation_run


def main(epoch: int) -> None:
    config, paths, name = load_params(), ProjectPaths(), f"{CHECKPOINT}{epoch}"
    record, test, folder = read_record(paths.model_record), read_reviews(paths.splits.test), paths.arm(name)
    sections, inputs = EVALUATION_SECTIONS, {"valid": "validation", "test": "evaluation"}
    tags = {"job_id": record.job_id, "training_sha256": record.training_sha256, "epoch": str(epoch)}
    with evaluation_run(config, name, sections=sections, inputs=inputs, tags=tags) as run:
        result = evaluate_checkpoint(
            epoch,
            record,
            config,
            test,
            chat=paths.chat.folder,
            manifest=paths.splits.manifest,
            valid=read_reviews(paths.splits.valid),
            progress=TerminalProgress(),
        )
        results.write(result, folder)
        results.log(run, result, folder)
        results.write_run(result, folder, run.id)


if __name__ == "__main__":
    run_stage(main, __doc__, epoch=int)
