"""Stage evaluate: data/splits/test.csv, models/finetuned.json -> reports/arms/finetuned/.  Run: dvc repro evaluate"""

from pathlib import Path

from reviewtune.core.config_loading import load_params
from reviewtune.core.entry_point import run_stage
from reviewtune.data.reviews import read_reviews
from reviewtune.evaluation import results
from reviewtune.evaluation.arms import evaluate_finetuned
from reviewtune.finetuning.model_record import read_record
from reviewtune.tracking.provenance import evaluation_run

SECTIONS = ("data", "split", "provider", "prompt", "training", "evaluation")
SPLITS, CHAT, FOLDER = Path("data/splits"), Path("data/chat"), Path("reports/arms/finetuned")
HOSTILE = Path("data/injections")


def main() -> None:
    config, record = load_params(), read_record(Path("models/finetuned.json"))
    test = read_reviews(SPLITS / "test.csv")
    tags = {"job_id": record.job_id, "training_sha256": record.training_sha256}
    with evaluation_run(config, "finetuned", sections=SECTIONS, inputs={"test": "evaluation"}, tags=tags) as run:
        manifest = SPLITS / "manifest.json"
        result = evaluate_finetuned(record, config, test, chat=CHAT, manifest=manifest, hostile=HOSTILE)
        results.write(result, FOLDER)
        results.log(run, result, FOLDER)
        run.text(record.model + "\n", "model_id.txt")
        results.write_run(result, FOLDER, run.id)


if __name__ == "__main__":
    run_stage(main, __doc__)
