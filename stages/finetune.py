"""Stage finetune: data/chat/*.jsonl -> models/finetuned.json, models/run.json, reports/training_curve.csv and .png.

Run: dvc repro finetune        If it is killed, the same command finds its job again; nothing is paid twice.
"""

from reviewtune.core.config.loading import load_params
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.entry_point import run_stage
from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.finetuning import model_record
from reviewtune.finetuning.jobs import Order
from reviewtune.finetuning.train import train
from reviewtune.tracking.provenance import TRAINING_SECTIONS, describe_run, run_identity
from reviewtune.tracking.runs import RunKey, open_run

INPUTS = {"train": "training", "valid": "validation"}


def main() -> None:
    config, paths = load_params(), ProjectPaths()
    order, models, reports = Order.of(config, paths.chat), paths.models, paths.reports
    key = RunKey(f"finetune:{run_identity(config, order.key, sections=TRAINING_SECTIONS, inputs=INPUTS)}")
    with open_run(config.tracking, name="finetune", kind="finetune", tags={}, run_key=key) as run:
        describe_run(run, config, sections=TRAINING_SECTIONS, inputs=INPUTS)
        record, finetuned = train(
            run, config, order, splits=paths.splits, models=models, reports=reports, progress=TerminalProgress()
        )
        picture = reports / model_record.PICTURE
        picture.write_bytes(model_record.picture_of(paths.training_curve))
        model_record.write_run(finetuned, models, run.id)
        model_record.log_curve(run, record, finetuned)
        run.artifact(picture)


if __name__ == "__main__":
    run_stage(main, __doc__)
