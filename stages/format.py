"""Stage format: data/splits/{train,valid}.csv -> data/chat/*.jsonl, reports/cost_estimate.json.

Run: dvc repro format
"""

from pathlib import Path

from reviewtune.core.atomic_files import write_json
from reviewtune.core.config_loading import load_params
from reviewtune.core.entry_point import run_stage
from reviewtune.data.chat_files import check, lines_of, write_lines
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import read_reviews
from reviewtune.finetuning.cost import cost_estimate

SPLITS, CHAT = Path("data/splits"), Path("data/chat")


def main() -> None:
    config = load_params()
    prompt = Prompt.of(config)
    write_lines(CHAT / "training_data.jsonl", lines_of(read_reviews(SPLITS / "train.csv"), prompt))
    write_lines(CHAT / "validation_data.jsonl", lines_of(read_reviews(SPLITS / "valid.csv"), prompt))
    training, validation = (check(CHAT / f"{name}_data.jsonl", prompt) for name in ("training", "validation"))
    write_json(cost_estimate(training, validation, config.prices), Path("reports/cost_estimate.json"))
    for warning in (*training.warnings, *validation.warnings):
        print(f"warning: {warning}")


if __name__ == "__main__":
    run_stage(main, __doc__)
