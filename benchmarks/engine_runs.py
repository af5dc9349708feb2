"""One fine-tune of the local engine; called in a separate process, so that its peak memory is its own."""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from own_process import alone
from reviews import write_chat_files

from reviewtune.core.user_dirs import cache_folder
from reviewtune.data.prompts import Prompt
from reviewtune.local_server.engine.highest_memory import highest_memory
from reviewtune.local_server.settings import prepare_torch

if TYPE_CHECKING:
    from reviewtune.local_server.engine.training.recipes import Recipe

REPORT_SECONDS = 60.0  # between two progress lines


class Trained(NamedTuple):
    """A finished training."""

    folder: Path
    seconds: float  # from the loaded model to the saved one
    peak_gb: float  # of the process, on CUDA of the GPU
    tokens: int
    held_out_loss: float | None  # nats per trained token; None without held-out rows


class StepClock:
    """Prints the time left once a minute, by the steps alone: before the first one, the lower layers are computed."""

    def __init__(self, steps: int) -> None:
        self._steps, self._begin, self._printed = steps, 0.0, 0.0

    def after_step(self, step: int) -> None:
        now = time.perf_counter()
        if step == 1:
            self._begin = self._printed = now
        elif now - self._printed > REPORT_SECONDS:
            self._printed = now
            left = (now - self._begin) * (self._steps - step) / (step - 1)
            print(f"  step {step} of {self._steps}, {left:.0f} s left in this training", flush=True)


def in_a_process(work: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - what the function returns
    """Call a function in a new process, for its peak memory; its threads wait as the engine's do."""
    prepare_torch()  # here, because a new process imports torch before it calls anything
    return alone(work, *arguments)


def fine_tune(
    base: str,
    work: Path,
    prompt: Prompt,
    train: pd.DataFrame,
    held_out: pd.DataFrame | None,
    *,
    seed: int = 13,
    recipe: "Recipe | None" = None,
) -> Trained:
    """Fine-tune a base model, by its shipped recipe or another; prints the time left once a minute.

    Args:
        base: the base model's name.
        work: an empty folder.
        prompt: what the model is trained with.
        train: rows to train on.
        held_out: rows to measure the loss on.
        seed: of the order and the dropout.
        recipe: instead of the shipped one.
    """
    prepare_torch()
    from reviewtune.local_server.engine.base_models.ensure import ensure
    from reviewtune.local_server.engine.training import finetune, memory
    from reviewtune.local_server.engine.types import StepMetrics, TrainingSpec

    valid = None if held_out is None else work / "valid.jsonl"
    write_chat_files(work, prompt, train=train, **({} if held_out is None else {"valid": held_out}))
    spec = TrainingSpec(ensure(base, cache_folder()), work / "train.jsonl", valid, work / "model", seed=seed)
    run = finetune.TrainingRun(spec, recipe)
    start = time.perf_counter()
    clock = StepClock(run.total_steps)
    for news in run.run():
        if isinstance(news, StepMetrics):
            _stop_if_orphaned()
            clock.after_step(news.step)
    seconds, count = time.perf_counter() - start, len(run.validation.examples)
    loss = run._score(run.validation, list(range(count))).loss if count else None
    peak = memory.peak_memory(run.model.device) / 1e9
    return Trained(spec.output, seconds, peak, run.hyper.n_epochs * run.training.tokens, loss)


def _stop_if_orphaned() -> None:
    """A killed benchmark must not leave a training behind that takes the processor from the next one."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise SystemExit("the benchmark that started this training was killed")


def peak_gb() -> float:
    """The highest memory of this process so far."""
    return highest_memory() / 1e9
