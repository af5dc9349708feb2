"""Stage format: data/splits/{train,valid,test}.csv -> data/chat/*.jsonl, reports/cost_estimate.json.

Run: dvc repro format
"""

from reviewtune.core.atomic_files import write_json
from reviewtune.core.config.loading import load_params
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.entry_point import run_stage
from reviewtune.data.preparation import read_splits, write_chat
from reviewtune.evaluation.notices.capacity import capacity_notices
from reviewtune.finetuning.cost import cost_estimate


def main() -> None:
    config, paths = load_params(), ProjectPaths()
    checked = write_chat(config, paths.splits, paths.chat)
    write_json(cost_estimate(checked.training, checked.validation, config.prices), paths.cost_estimate)
    for warning in (*checked.warnings, *capacity_notices(config, read_splits(paths.splits))):
        print(f"warning: {warning}")


if __name__ == "__main__":
    run_stage(main, __doc__)
