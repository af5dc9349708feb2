"""Stage evaluate: data/splits/{valid,test}.csv, models/finetuned.json -> reports/arms/finetuned/.

Run: dvc repro evaluate
"""

from reviewtune.core.config.arms import FINETUNED
from reviewtune.core.config.loading import load_params
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.entry_point import run_stage
from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.data.reviews import read_reviews
from reviewtune.evaluation import results
from reviewtune.evaluation.arms import evaluate_finetuned
from reviewtune.finetuning.model_record import read_record
from reviewtune.tracking.provenance import EVALUATION_SECTIONS, evaluation_run


def main() -> None:
    config, paths = load_params(), ProjectPaths()
    record, test, folder = read_record(paths.model_record), read_reviews(paths.splits.test), paths.arm(FINETUNED)
    sections, inputs = EVALUATION_SECTIONS, {"valid": "validation", "test": "evaluation"}
    tags = {"job_id": record.job_id, "training_sha256": record.training_sha256}
    with evaluation_run(config, FINETUNED, sections=sections, inputs=inputs, tags=tags) as run:
        result = evaluate_finetuned(
            record,
            config,
            test,
            chat=paths.chat.folder,
            manifest=paths.splits.manifest,
            hostile=paths.injections,
            valid=read_reviews(paths.splits.valid),
            progress=TerminalProgress(),
        )
        results.write(result, folder)
        results.log(run, result, folder)
        run.text(record.model + "\n", "model_id.txt")
        results.write_run(result, folder, run.id)


if __name__ == "__main__":
    run_stage(main, __doc__)
