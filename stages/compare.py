"""Stage compare: reports/arms/*, models/run.json -> reports/comparison.{md,json,csv} and pictures.

Run: dvc repro compare
"""

from pathlib import Path

from reviewtune.core.config_loading import load_params
from reviewtune.core.entry_point import run_stage
from reviewtune.core.progress import TerminalProgress
from reviewtune.evaluation.comparison.compare import compare, load_arm
from reviewtune.evaluation.comparison.outputs import outputs_of, write_outputs
from reviewtune.tracking.provenance import log_pass

REPORTS, MODELS = Path("reports"), Path("models")


def main() -> None:
    config = load_params()
    how, folders = config.evaluation, [REPORTS / "arms" / name for name in config.compared]
    arms = [load_arm(folder) for folder in folders]
    comparison = compare(arms, reference=how.reference, seed=how.seed, resamples=how.resamples, cascade=how.cascade)
    outputs = outputs_of(comparison, arms)
    written = write_outputs(outputs, REPORTS)
    runs = [*(folder / "run.json" for folder in folders), MODELS / "run.json"]
    log_pass(config.tracking, comparison.test_sha256, runs, written, outputs.markdown, progress=TerminalProgress())


if __name__ == "__main__":
    run_stage(main, __doc__)
