"""One training in a separate process, so that neither a crash nor a cancel affects the server.

python -m reviewtune.local_server.fine_tuning.trainer JOB_DIR
"""

import gc
import itertools
import logging
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from filelock import Timeout

from reviewtune.errors import DataError, ProviderError, ReviewtuneError
from reviewtune.local_server.engine.types import CheckpointSaved, DiskFull, News, TrainingSpec
from reviewtune.local_server.fine_tuning.duration import DurationNotice, faster_base
from reviewtune.local_server.fine_tuning.job_folder import JobFolder
from reviewtune.local_server.settings import importing, prepare_torch

NO_SPACE = "no space left on the disk of {folder} for a checkpoint; the training waits until you free some"
PATIENCE = 10.0  # seconds to wait for an earlier trainer of this job that is just ending


def main() -> int:
    """Train the job whose folder is the first argument."""
    prepare_torch()
    gc.set_threshold(100_000)  # as in local_server.__main__
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    job = JobFolder(Path(sys.argv[1]))
    try:
        with job.trainer_lock(PATIENCE):
            if job.read("result.json") is None:
                _run(job)
    except Timeout:
        print("another trainer works on this job", file=sys.stderr)
    return 0


def _run(job: JobFolder) -> None:
    """Train and write result.json or error.json."""
    (job.path / "error.json").unlink(missing_ok=True)
    try:
        result = _train(job)
    except ReviewtuneError as error:
        traceback.print_exc()
        job.conclude("error.json", _error(job, error))
    except Exception as error:
        traceback.print_exc()
        message = f"Training ended with an internal error ({type(error).__name__}: {error})."
        job.conclude("error.json", {"code": "internal_error", "message": message, "param": None})
    else:
        job.conclude("result.json", result)


def _error(job: JobFolder, error: ReviewtuneError) -> dict[str, str | None]:
    if not isinstance(error, DataError):
        return {"code": "training_failed", "message": str(error), "param": None}
    param = "validation_file" if str(error).startswith(job.validation.name) else "training_file"
    return {"code": f"invalid_{param}", "message": str(error), "param": param}


def _train(job: JobFolder) -> dict[str, Any]:
    order = job.read("spec.json")
    assert order is not None, "the server writes spec.json before it starts a trainer"
    job.report("started")
    spec = _spec(job, order)
    with importing("transformers"):  # it takes seconds, so only here
        from reviewtune.local_server.engine.model_loading import on_cpu_without_amx
        from reviewtune.local_server.engine.training import finetune

    job.report("hyperparameters", **asdict(finetune.resolve(spec)))
    suggestion = "" if order["folder"] else faster_base(spec.base)
    notice = DurationNotice(suggestion, _held_out(spec), slow_processor=on_cpu_without_amx())
    result = asdict(finetune.train(spec, partial(_report, job, notice)))
    return result | {"folder": str(result["folder"])}


def _spec(job: JobFolder, order: dict[str, Any]) -> TrainingSpec:
    """What to train: from a base model, an adapter, or a fine-tune with whole weights.

    Raises:
        ProviderError: the fine-tune to start from was deleted, or the base model cannot be had.
    """
    start = Path(order["folder"]) if order["folder"] else None
    if start is not None and not start.is_dir():
        raise ProviderError(f"the fine-tune {order['base']}, from which this job starts, was deleted")
    is_adapter = bool(order.get("is_adapter"))
    return TrainingSpec(
        base=start if start and not is_adapter else _base(job, order),
        adapter=start if is_adapter else None,
        whole=start is not None and not is_adapter,  # the earlier fine-tune may be deleted
        training_file=job.training,
        validation_file=job.validation if job.validation.exists() else None,
        output=Path(order["output"]),
        seed=order["seed"],
        **{name: None if value == "auto" else value for name, value in order["hyperparameters"].items()},
    )


def _report(job: JobFolder, notice: DurationNotice, news: News) -> None:
    """Pass what a training reports on to the server."""
    if isinstance(news, DiskFull):
        job.report("message", key=f"disk:{news.epoch}", text=NO_SPACE.format(folder=news.folder), level="warn")
        return
    if isinstance(news, CheckpointSaved):
        job.report("checkpoint", folder=str(news.folder), metrics=asdict(news.metrics))
        return
    job.report("step", metrics=asdict(news))
    if (text := notice.after(news.total_steps - news.step, time.time())) is not None:
        job.report("message", key="duration", text=text, level="warn")


def _held_out(spec: TrainingSpec) -> float:
    """Validation examples per training example."""
    files = (spec.validation_file, spec.training_file)
    validation, training = (file.read_bytes().count(b"\n") if file else 0 for file in files)
    return validation / max(1, training)


def _base(job: JobFolder, order: dict[str, Any]) -> Path:
    """The folder of the base model; its weights are fetched at the first use."""
    from reviewtune.local_server.engine.base_models.ensure import base_of_adapter, ensure

    name = order.get("first_base", order["base"])  # a job of an earlier release has no first_base
    job.report("message", key="weights", text=f"Fetching weights of {name}")
    if order.get("is_adapter"):
        return base_of_adapter(Path(order["folder"]), name, Path(order["cache"]), _message_of(job))
    return ensure(name, Path(order["cache"]), _message_of(job))


def _message_of(job: JobFolder) -> Callable[[str], None]:
    """A function that reports a text as a message of the job; the server keeps one message per key."""
    start, count = time.time(), itertools.count(1)

    def report(text: str) -> None:
        job.report("message", key=f"weights:{start:.3f}:{next(count)}", text=text)

    return report


if __name__ == "__main__":
    sys.exit(main())
