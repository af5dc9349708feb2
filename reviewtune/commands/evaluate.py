"""The command `evaluate`: score a model on a labelled file and compare the scores with earlier ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from reviewtune.core.config_loading import load_params
from reviewtune.core.outputs import refuse_bad_folder
from reviewtune.core.progress import TerminalProgress
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.errors import DataError
from reviewtune.evaluation import results
from reviewtune.evaluation.console_report import report
from reviewtune.evaluation.earlier_metrics import EarlierMetrics, changes, read_earlier, refuse_other_test_set
from reviewtune.evaluation.ground_truth import GroundTruth, evaluate_file, read_ground_truth, training_is_unknown
from reviewtune.finetuning.model_record import fitting_record


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """The command's options.

    Args:
        ground_truth: CSV of labelled reviews.
        model: the model's name; None: the one of the last `dvc repro`.
        compare: metrics JSON of an earlier evaluation.
        out: folder for the results; None: they are only printed.
        other_test_set: compare even if the test sets differ.
        by: further columns whose values are scored separately.
    """

    ground_truth: Path
    model: str | None
    compare: Path | None
    out: Path | None
    other_test_set: bool
    by: Sequence[str]


def evaluate(options: EvaluateOptions) -> None:
    """Everything that can be refused is refused before the model is asked, which may cost money."""
    root = project_root()
    if options.out:
        _refuse_bad_out(options.out, options, root)
    config = load_params(ProjectPaths(root).params)
    fitting_record(ProjectPaths(root).model_record, options.model, config)
    earlier = read_earlier(options.compare) if options.compare else None
    truth = read_ground_truth(options.ground_truth, config.data, options.by)
    notes = [*_notes_on_test_set(earlier, truth, options), *_notes_on_training(options.model, root)]
    result = evaluate_file(options.model, truth, config, root, progress=TerminalProgress())
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        results.write(result, options.out)
    console = Console()
    for part in report(result, changes(earlier, result.metrics) if earlier else [], notes):
        console.print(part)


def _refuse_bad_out(folder: Path, options: EvaluateOptions, root: Path) -> None:
    """Refuse a folder in which a file would be lost.

    Raises:
        DataError: it cannot be written, is one of the pipeline's, or holds files that no evaluation wrote.
    """
    refuse_bad_folder(folder, results.FILES)
    if folder.resolve().is_relative_to(ProjectPaths(root).arm("").resolve()):
        raise DataError(f"--out {folder}: `dvc repro` writes there; name another folder")
    present = [name for name in results.FILES if (folder / name).exists()]
    inputs = {path.resolve() for path in (options.ground_truth, options.compare) if path}
    for name in present:
        if (folder / name).resolve() in inputs:
            raise DataError(f"--out {folder}: {name} would be overwritten, but it is read now; name another folder")
    if present and not (folder / results.METRICS).exists():
        raise DataError(f"--out {folder}: {present[0]} is not from an evaluation; name another folder")
    if present:
        read_earlier(folder / results.METRICS)


def _notes_on_test_set(earlier: EarlierMetrics | None, truth: GroundTruth, options: EvaluateOptions) -> list[str]:
    if earlier is None:
        return []
    if options.other_test_set:
        return [f"{earlier.path} may be from another test set: the difference says nothing about the model alone"]
    note = refuse_other_test_set(earlier, n=len(truth.reviews), test_sha256=truth.sha256, file=options.ground_truth)
    return [note] if note else []


def _notes_on_training(model: str | None, root: Path) -> list[str]:
    if not training_is_unknown(model, root):
        return []
    return [f"this project has no record of the training of {model}: it may have seen these reviews"]
