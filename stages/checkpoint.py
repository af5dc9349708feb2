"""Stage checkpoint@EPOCH: data/splits/test.csv, models/finetuned.json -> reports/arms/checkpoint_EPOCH/.

Run: dvc exp run -S 'evaluation.checkpoints=[1,2]'
"""

from pathlib import Path

from reviewtune.core.config import CHECKPOINT
from reviewtune.core.config_loading import load_params
from reviewtune.core.entry_point import run_stage
from reviewtune.data.reviews import read_reviews
from reviewtune.evaluation import results
from reviewtune.evaluation.arms import evaluate_checkpoint
from reviewtune.finetuning.model_record import read_record
from reviewtune.tracking.provenance import evaluation_run

SECTIONS = ("data", "split", "provider", "prompt", "training", "evaluation")
SPLITS, CHAT = Path("data/splits"), Path("data/chat")


def main(epoch: int) -> None:
    config, record = load_params(), read_record(Path("models/finetuned.json"))
    name, test = f"{CHECKPOINT}{epoch}", read_reviews(SPLITS / "test.csv")
    tags = {"job_id": record.job_id, "training_sha256": record.training_sha256, "epoch": str(epoch)}
    with evaluation_run(config, name, sections=SECTIONS, inputs={"test": "evaluation"}, tags=tags) as run:
        result = evaluate_checkpoint(epoch, record, config, test, chat=CHAT, manifest=SPLITS / "manifest.json")
        folder = Path("reports/arms") / name
        results.write(result, folder)
        results.log(run, result, folder)
        results.write_run(result, folder, run.id)


if __name__ == "__main__":
    run_stage(main, __doc__, epoch=int)
