"""Stage compare: reports/arms/*, models/run.json -> reports/comparison.{md,json,csv} and pictures.

Run: dvc repro compare
"""

from reviewtune.core.config.loading import load_params
from reviewtune.core.project import ProjectPaths
from reviewtune.core.terminal.entry_point import run_stage
from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.evaluation.comparison.compare import compare, load_arm
from reviewtune.evaluation.comparison.outputs import outputs_of, write_outputs
from reviewtune.tracking.provenance import log_pass


def main() -> None:
    config, paths = load_params(), ProjectPaths()
    settings, folders = config.evaluation, [paths.arm(name) for name in config.compared]
    arms = [load_arm(folder) for folder in folders]
    comparison = compare(
        arms,
        reference=settings.reference,
        seed=settings.seed,
        resamples=settings.resamples,
        cascade=settings.cascade,
        margin=config.promotion.margin,
    )
    outputs = outputs_of(comparison, arms)
    written = write_outputs(outputs, paths.reports)
    runs = [*(folder / "run.json" for folder in folders), paths.model_run]
    log_pass(config.tracking, comparison.test_sha256, runs, written, outputs.markdown, progress=TerminalProgress())


if __name__ == "__main__":
    run_stage(main, __doc__)
