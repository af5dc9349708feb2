"""Supervised fine-tuning: the upper layers of a small chat model learn the answers of a chat file.

Equal inputs give equal weights, to the bit, on one machine with one thread count: the order of the examples is drawn
from the seed and the epoch, what dropout leaves out from the seed and the step, nothing else is random. Cut off, a
training goes on from the end of the last epoch and ends with the very weights of an undisturbed one.
"""

import math
import resource
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

import torch

from reviewtune.local_server.engine.attention import ATTENTION
from reviewtune.local_server.engine.model_loading import LoadedModel, device, fast_precision, load_model
from reviewtune.local_server.engine.training.checkpoints import Checkpoints
from reviewtune.local_server.engine.training.fp32_masters import Fp32Masters
from reviewtune.local_server.engine.training.frozen_layers import ExampleSet, UpperLayers, example_sets
from reviewtune.local_server.engine.training.losses import token_loss
from reviewtune.local_server.engine.training.packing import read_examples
from reviewtune.local_server.engine.training.recipes import recipe_for
from reviewtune.local_server.engine.types import (
    CheckpointSaved,
    Hyperparameters,
    StepMetrics,
    TrainingResult,
    TrainingSpec,
)

WARM_UP = 0.1  # share of the steps in which the learning rate rises
VALIDATE_EVERY = 10  # steps

Report = Callable[[StepMetrics | CheckpointSaved], None]


def resolve(spec: TrainingSpec) -> Hyperparameters:
    """The numbers that a job will use: what was asked for, and the model family's recipe for the rest."""
    recipe = recipe_for(spec.base)
    return Hyperparameters(
        n_epochs=spec.n_epochs or recipe.n_epochs,
        batch_size=spec.batch_size or recipe.batch_size,
        learning_rate_multiplier=spec.learning_rate_multiplier or 1.0,
    )


def train(spec: TrainingSpec, report: Report) -> TrainingResult:
    """Fine-tune and save; every epoch's end is a checkpoint.

    Raises:
        DataError: a line of a file cannot be learned from.
        ProviderError: the base model cannot be opened.
    """
    start = time.monotonic()
    course = TrainingRun(spec)
    for news in course.run():
        report(news)
    return TrainingResult(
        folder=spec.output,
        trained_tokens=course.hyper.n_epochs * course.learned.tokens,
        hyperparameters=course.hyper,
        steps=course.total_steps,
        peak_memory_bytes=_peak_memory(),
        wall_seconds=time.monotonic() - start,
    )


@dataclass(frozen=True, slots=True)
class Score:
    """Mean loss a learned token, and the share of them that the model would have chosen."""

    loss: float
    accuracy: float


class TrainingRun:
    """One fine-tune from its first step to the saved model."""

    def __init__(self, spec: TrainingSpec) -> None:
        self.spec, self.hyper = spec, resolve(spec)
        recipe = recipe_for(spec.base)
        torch.manual_seed(spec.seed)
        self.model: LoadedModel = load_model(spec.base, fast_precision(device()), ATTENTION)
        self.learned, self.held_out = self._materials()
        frozen = int(recipe.frozen_layers * len(self.model.network.get_decoder().layers))
        self.layers = UpperLayers(self.model, frozen, recipe.dropout)
        self.masters = Fp32Masters(self.layers.trained)
        self.peak_rate = recipe.learning_rate * self.hyper.learning_rate_multiplier
        self.optimizer = torch.optim.AdamW(self.masters.named.values(), weight_decay=0.0, fused=True)
        self.steps_an_epoch = math.ceil(len(self.learned.examples) / self.hyper.batch_size)
        self.total_steps = self.steps_an_epoch * self.hyper.n_epochs
        self.checkpoints = Checkpoints(spec, self.hyper, self.model.network, self.masters, self.optimizer)

    def run(self) -> Iterator[StepMetrics | CheckpointSaved]:
        for material in (self.learned, self.held_out):
            self.layers.remember(material)
        done = self.checkpoints.resume()
        for epoch in range(done + 1, self.hyper.n_epochs + 1):
            last = yield from self._epoch(epoch)
            yield CheckpointSaved(last, self.checkpoints.save(epoch, last.step))
        self.checkpoints.finish(self.total_steps)

    def _epoch(self, epoch: int) -> Generator[StepMetrics, None, StepMetrics]:
        """All steps; returns the last one's metrics."""
        order = torch.Generator().manual_seed(self.spec.seed * 1000 + epoch)
        shuffled = torch.randperm(len(self.learned.examples), generator=order)
        for step, chosen in enumerate(
            torch.split(shuffled, self.hyper.batch_size), (epoch - 1) * self.steps_an_epoch + 1
        ):
            score = self._step(step, chosen.tolist())
            metrics = StepMetrics(step, self.total_steps, epoch, score.loss, score.accuracy)
            metrics = self._validated(metrics, last=step == epoch * self.steps_an_epoch)
            yield metrics
        return metrics

    def _step(self, step: int, chosen: list[int]) -> Score:
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak_rate * _ramp(step, self.total_steps)
        torch.manual_seed(self.spec.seed * 100_000 + step)  # of dropout: the same when a training goes on
        score = self._score(self.learned, chosen, learn=True)
        # Not clipped on purpose: Adam remembers how large the first gradients were and goes carefully ever after.
        # Clipped at 1, the same recipe ended with a held-out loss of 0.12 instead of 0.09.
        self.masters.take_gradients()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.masters.give_weights()
        return score

    def _score(self, material: ExampleSet, chosen: list[int], learn: bool = False) -> Score:
        """The loss of these examples; `learn` leaves its gradient in the weights."""
        count = sum(sum(material.examples[index].learned) for index in chosen)
        loss = correct = 0.0
        for pack in material.packs(chosen, self.model.device):
            with torch.set_grad_enabled(learn):
                found = token_loss(self.layers.hidden(pack, material), self.model.head, pack.targets)
            if learn:
                torch.autograd.backward(found.loss / count)
            loss += found.loss.item()
            correct += found.correct.item()
        return Score(loss / count, correct / count)

    def _validated(self, metrics: StepMetrics, last: bool) -> StepMetrics:
        """With the held-out loss: of a few examples now and then, of all at the end of an epoch."""
        count = len(self.held_out.examples)
        if count and (last or metrics.step % VALIDATE_EVERY == 0):
            begin = metrics.step * self.hyper.batch_size
            few = sorted({index % count for index in range(begin, begin + self.hyper.batch_size)})
            score = self._score(self.held_out, few)
            metrics = replace(metrics, valid_loss=score.loss, valid_mean_token_accuracy=score.accuracy)
        if count and last:
            full = self._score(self.held_out, list(range(count)))
            metrics = replace(metrics, full_valid_loss=full.loss, full_valid_mean_token_accuracy=full.accuracy)
        return metrics

    def _materials(self) -> list[ExampleSet]:
        files = (self.spec.training_file, self.spec.validation_file)
        return example_sets(
            *(read_examples(file, self.model.chat, self.model.context) if file else [] for file in files)
        )


def _ramp(step: int, total: int) -> float:
    """Share of the learning rate at a step: up for the first tenth, then down in a straight line."""
    warm_up = max(1, round(WARM_UP * total))
    return min(step / warm_up, (total - step + 1) / (total - warm_up + 1))


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
