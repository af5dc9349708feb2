"""Stage finetune: data/chat/*.jsonl -> models/finetuned.json, models/run.json, reports/training_curve.csv and .png.

Run: dvc repro finetune        Killed half-way? The same command finds the job again; nothing is paid twice.
"""

from functools import partial
from pathlib import Path

from reviewtune.core.config_loading import load_params
from reviewtune.core.entry_point import run_stage
from reviewtune.core.progress import TerminalProgress
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import sha256
from reviewtune.finetuning import model_record
from reviewtune.finetuning.cost import allow_training
from reviewtune.finetuning.jobs import Order, finetune
from reviewtune.providers.client import connect
from reviewtune.tracking.provenance import describe_run
from reviewtune.tracking.runs import open_run

SECTIONS = ("data", "split", "provider", "prompt", "training")
CHAT, MODELS, REPORTS = Path("data/chat"), Path("models"), Path("reports")
TEST = Path("data/splits/test.csv")


def main() -> None:
    config = load_params()
    training, validation = (CHAT / f"{name}_data.jsonl" for name in ("training", "validation"))
    prices = (config.provider, config.training, config.prices, config.evaluation.budget_usd)
    order = Order(training, validation, config.provider, config.training, partial(allow_training, training, *prices))
    with open_run(config.tracking, name="finetune", kind="finetune", tags={}, run_key=order.key) as run:
        describe_run(run, config, sections=SECTIONS, inputs={"train": "training", "valid": "validation"})
        with connect(config.provider) as client:
            finetuned = finetune(client, order, progress=TerminalProgress())
        made = model_record.record_of(finetuned, order, Prompt.of(config), test_sha256=sha256(TEST))
        model_record.write_record(made, finetuned, models=MODELS, reports=REPORTS)
        (REPORTS / model_record.PICTURE).write_bytes(model_record.picture_of(REPORTS / model_record.CURVE))
        model_record.write_run(finetuned, MODELS, run.id)
        model_record.log(run, made, models=MODELS, reports=REPORTS)
        model_record.log_curve(run, made, finetuned)
        run.artifact(REPORTS / model_record.PICTURE)


if __name__ == "__main__":
    run_stage(main, __doc__)
