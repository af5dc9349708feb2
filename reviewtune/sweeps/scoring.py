"""Score the model of a job: on the validation split, by which the sweep chooses, and after that on the test split.

Both scores are in the job's run. Those of the validation split are metrics with the prefix `validation_` and files in
the folder `validation/`; those of the test split have the names that they have in any run, such as `accuracy`.
"""

from reviewtune.core.config.arms import FINETUNED
from reviewtune.core.config.config import TrackingConfig
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.reviews import read_reviews
from reviewtune.errors import ConfigError
from reviewtune.evaluation import results
from reviewtune.evaluation.arms import evaluate_finetuned, evaluate_on_validation
from reviewtune.evaluation.metrics.significance import Interval
from reviewtune.evaluation.results import Evaluation
from reviewtune.finetuning.model_record import RECORD, ModelRecord, read_record
from reviewtune.sweeps.job import Job
from reviewtune.tracking.queries import artifact_of, stored_run
from reviewtune.tracking.runs import Run, RunRecord

VALIDATION = "validation"  # folder of a job's files, and of its run's artifacts
ACCURACY, TEST_ACCURACY = "validation_accuracy", "accuracy"  # metrics of a job's run


def is_done(run: RunRecord) -> bool:
    """Whether the job has ended well; one of an earlier version, which asked the test split only, has not."""
    return run.status == "FINISHED" and ACCURACY in run.metrics


def score_of(run: RunRecord, metric: str) -> Interval | None:
    """An accuracy of the job with its interval; None if its model was not asked about that split."""
    return interval_of(run, metric) if metric in run.metrics else None


def interval_of(run: RunRecord, metric: str) -> Interval:
    """A metric of a run with its interval, as `Interval.named` logs it."""
    return Interval(*(run.metrics[name] for name in (metric, f"{metric}_low", f"{metric}_high")))


def score_on_validation(job: Job, record: ModelRecord, *, progress: Progress = SILENT) -> Evaluation:
    """Ask the job's model about the validation split and write the tables.

    Raises:
        LeakError: the model was trained on a validation review.
        ProviderError: the model could not be asked.
    """
    result = evaluate_on_validation(
        record,
        job.config,
        read_reviews(job.splits.valid),
        chat=job.chat.folder,
        manifest=job.splits.manifest,
        hostile=ProjectPaths(project_root()).injections,
        progress=progress,
    )
    results.write_tables(result, job.folder / VALIDATION)
    return result


def log_validation(run: Run, job: Job, result: Evaluation) -> None:
    """Log what the job's model achieved on the validation split, and the tables.

    Call it before other numbers are logged: MLflow's compare page plots the metric that was logged first.
    """
    with run.together():
        run.tags({"arm": FINETUNED, "arm_kind": FINETUNED, "prompt": job.config.prompt.name})
        run.metrics({f"{VALIDATION}_{name}": value for name, value in _numbers(result).items()})
        run.table(result.predictions, f"{VALIDATION}/predictions.json")
    for path in sorted((job.folder / VALIDATION).iterdir()):
        run.artifact(path, VALIDATION)


def score_on_test(job: Job, child: RunRecord, tracking: TrackingConfig, *, progress: Progress = SILENT) -> Evaluation:
    """Ask the model of a finished job about the test split, and add the result to its run.

    The pipeline asks the same questions, so that `dvc repro` with the job's settings finds the answers in the cache.

    Args:
        job: the job, whose splits and chat files are written.
        child: its run.
        tracking: where it is stored.
        progress: receives messages and progress bars.

    Raises:
        ConfigError: conf/ or the data changed since the job ran.
        ProviderError: the model could not be asked, for example because another machine trained it.
        BudgetError: the answers could cost more than evaluation.budget_usd leaves.
    """
    if job.key != child.tags["job_key"]:
        raise ConfigError("conf/, the data or the code changed since the job ran")
    test, folder = read_reviews(job.splits.test), job.folder / FINETUNED
    result = evaluate_finetuned(
        read_record(artifact_of(tracking, child.id, RECORD)),
        job.config,
        test,
        chat=job.chat.folder,
        manifest=job.splits.manifest,
        hostile=ProjectPaths(project_root()).injections,
        valid=read_reviews(job.splits.valid),
        progress=progress,
    )
    results.write(result, folder)
    run, data = stored_run(tracking, child.id), job.config.data.name
    results.log(run, result, folder)
    run.dataset(test, name=f"{data}/test", digest=result.metrics.test_sha256, context="evaluation")
    return result


def _numbers(result: Evaluation) -> dict[str, float]:
    """The metrics of a split. Accuracy comes first: MLflow's compare page plots the metric that was logged first."""
    metrics = result.metrics
    numbers = {
        **metrics.accuracy.named("accuracy"),
        "macro_f1": metrics.macro.f1,
        "f1": metrics.f1,
        "invalid": metrics.invalid,
        "n": metrics.n,
        "cost_per_1k": metrics.cost_per_1k,
        "cost_per_1k_at_gpt_4o_mini": metrics.cost_per_1k_at_gpt_4o_mini,
    }
    return {name: value for name, value in numbers.items() if value is not None}
