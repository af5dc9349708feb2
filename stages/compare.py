"""Stage compare: reports/arms/*, models/run.json -> reports/comparison.{md,json,csv} and pictures.

Run: dvc repro compare
"""

from pathlib import Path

from reviewtune.core.config_loading import load_params
from reviewtune.core.entry_point import run_stage
from reviewtune.core.progress import TerminalProgress
from reviewtune.evaluation.comparison.compare import compare, load_arm, write
from reviewtune.tracking.provenance import log_pass

REPORTS, MODELS = Path("reports"), Path("models")


def main() -> None:
    config = load_params()
    how, folders = config.evaluation, [REPORTS / "arms" / name for name in config.compared]
    arms = [load_arm(folder) for folder in folders]
    made = compare(arms, reference=how.reference, seed=how.seed, resamples=how.resamples, cascade=how.cascade)
    runs = [*(folder / "run.json" for folder in folders), MODELS / "run.json"]
    written = write(made, REPORTS)
    description = (REPORTS / "comparison.md").read_text(encoding="utf-8")
    log_pass(config.tracking, made.test_sha256, runs, written, description, progress=TerminalProgress())


if __name__ == "__main__":
    run_stage(main, __doc__)
