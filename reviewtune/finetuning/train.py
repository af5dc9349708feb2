"""The step finetune of the pipeline: from chat files to a recorded model, for the stage and for sweep jobs."""

from pathlib import Path

from reviewtune.core.config.config import Config
from reviewtune.core.project import ChatFiles, SplitFiles
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.reviews import read_reviews
from reviewtune.finetuning import model_record
from reviewtune.finetuning.jobs import Finetuned, Order, finetune
from reviewtune.finetuning.model_record import ModelRecord
from reviewtune.providers.client import connect
from reviewtune.tracking.runs import Run


def refuse_leaked(config: Config, splits: SplitFiles, chat: ChatFiles) -> None:
    """Compare the chat files with the test split before a job is created.

    Raises:
        LeakError: a test review is in one of the chat files.
    """
    test = read_reviews(splits.test)
    model_record.refuse_seen(test, chat.both, config.prompt, similarity=config.split.similarity)


def train(
    run: Run,
    config: Config,
    order: Order,
    *,
    splits: SplitFiles,
    models: Path,
    reports: Path,
    progress: Progress = SILENT,
) -> tuple[ModelRecord, Finetuned]:
    """Create the job or find it again, follow it to its end, and write and log the model's record and loss curve.

    The curve's metrics are not logged here: MLflow's compare page plots the metric that was logged first, so a caller
    that also logs an accuracy calls `model_record.log_curve` after that.

    Args:
        run: the MLflow run of the fine-tune.
        config: the configuration that `order` was made from.
        order: the files and settings of the job.
        splits: what the chat files were written from; its hashes go into the record.
        models: the folder of finetuned.json.
        reports: the folder of training_curve.csv.
        progress: where to report the job's progress.

    Raises:
        JobError: the job failed, was cancelled, or ended without a model.
        ProviderError: the provider refused the job or could not be reached.
    """
    with connect(config.provider, progress=progress) as client:
        finetuned = finetune(client, order, progress=progress)
    record = model_record.record_of(finetuned, order, config, splits)
    model_record.write_record(record, finetuned, models=models, reports=reports)
    # Log at once: `reviewtune clean` keeps a model that a run names.
    model_record.log(run, record, models=models, reports=reports)
    return record, finetuned
