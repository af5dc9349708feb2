"""Supervised fine-tuning: trains the upper layers of a small chat model on the answers of a chat file.

Equal inputs give bit-identical weights on one machine with one number of threads: the order of the examples is drawn
from the seed and the epoch, dropout from the seed and the step, and nothing else is random. A training that was cut off
resumes at the end of the last epoch and ends with exactly the weights of an uninterrupted one.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.adapter_files import load_adapter, size_of
from reviewtune.local_server.engine.adapters import new_adapter, trainable
from reviewtune.local_server.engine.attention import ATTENTION
from reviewtune.local_server.engine.base_models.disk_space import DISK_SECONDS, lacks_space
from reviewtune.local_server.engine.model_loading import (
    LoadedModel,
    context_of,
    device,
    fast_precision,
    load_chat,
    load_weights,
    without_weights,
)
from reviewtune.local_server.engine.training import memory
from reviewtune.local_server.engine.training.averaging import WeightAverage
from reviewtune.local_server.engine.training.checkpoints import Checkpoints, Course, pack_to_resume
from reviewtune.local_server.engine.training.fp32_masters import Fp32Masters
from reviewtune.local_server.engine.training.frozen_layers import ExampleSet, UpperLayers, example_sets
from reviewtune.local_server.engine.training.losses import token_loss
from reviewtune.local_server.engine.training.packing import read_examples
from reviewtune.local_server.engine.training.recipes import Recipe, recipe_for
from reviewtune.local_server.engine.types import (
    CheckpointSaved,
    DiskFull,
    Hyperparameters,
    News,
    StepMetrics,
    TrainingResult,
    TrainingSpec,
)

WARM_UP = 0.1  # share of the steps in which the learning rate rises
VALIDATE_EVERY = 10  # steps


Report = Callable[[News], None]
Saved = TypeVar("Saved")


def resolve(spec: TrainingSpec) -> Hyperparameters:
    """The hyperparameters that a training uses: the requested ones, and the model family's recipe for `auto`."""
    return _resolved(spec, recipe_for(spec.base))


def _resolved(spec: TrainingSpec, recipe: Recipe) -> Hyperparameters:
    return Hyperparameters(
        n_epochs=spec.n_epochs or recipe.n_epochs,
        batch_size=spec.batch_size or recipe.batch_size,
        learning_rate_multiplier=spec.learning_rate_multiplier or 1.0,
    )


def train(spec: TrainingSpec, report: Report) -> TrainingResult:
    """Fine-tune and save a model, with a checkpoint at the end of every epoch.

    Args:
        spec: what to train.
        report: called after every step and every checkpoint, and while the disk is full.

    Raises:
        DataError: a line of a file is not a training example.
        ProviderError: the base model cannot be opened, or the memory does not suffice.
    """
    start = time.monotonic()
    try:
        training = TrainingRun(spec)
        for news in training.run():
            report(news)
    except torch.OutOfMemoryError as error:  # of a GPU
        available = memory.available_memory(device())
        raise ProviderError(memory.ran_out(available)) from error
    return TrainingResult(
        folder=spec.output,
        trained_tokens=training.hyper.n_epochs * training.training.tokens,
        hyperparameters=training.hyper,
        steps=training.total_steps,
        peak_memory_bytes=memory.peak_memory(training.model.device),
        wall_seconds=time.monotonic() - start,
    )


@dataclass(frozen=True, slots=True)
class Score:
    """Mean loss per learned token in nats, and the share of these tokens that were the most likely ones."""

    loss: float
    accuracy: float


class TrainingRun:
    """One fine-tune, from its first step to the saved model.

    Args:
        spec: what to train.
        recipe: how, if not by the recipe of the model's family.
    """

    def __init__(self, spec: TrainingSpec, recipe: Recipe | None = None) -> None:
        recipe = recipe or recipe_for(spec.base)
        self.spec, self.hyper = spec, _resolved(spec, recipe)
        outline = without_weights(spec.base)
        self.training, self.validation = self._example_sets(context_of(outline))
        self.plan = self._plan(outline, recipe)
        torch.manual_seed(spec.seed)
        self.model: LoadedModel = load_weights(spec.base, fast_precision(device()), ATTENTION)
        frozen = self._begin_adapter(recipe)
        self.layers = UpperLayers(self.model, frozen, recipe.dropout, self.plan.recompute)
        self.masters = Fp32Masters(self.layers.trained)
        self.smoothing = recipe.label_smoothing
        self.peak_rate = recipe.learning_rate * self.hyper.learning_rate_multiplier
        self.optimizer = torch.optim.AdamW(self.masters.named.values(), weight_decay=0.0, fused=True)
        self.steps_per_epoch = math.ceil(len(self.training.examples) / self.hyper.batch_size)
        self.total_steps = self.steps_per_epoch * self.hyper.n_epochs
        self.average = WeightAverage(self.masters.named, recipe.average, self.total_steps)
        course = Course(self.masters, self.optimizer, self.average)
        self.checkpoints = Checkpoints(spec, self.hyper, self.model, course, self.plan.pack)

    def run(self) -> Iterator[News]:
        """Train; yields the metrics of every step, and every checkpoint."""
        for examples in (self.training, self.validation):
            self.layers.cache(examples)
        finished_epochs = self.checkpoints.resume()
        for epoch in range(finished_epochs + 1, self.hyper.n_epochs + 1):
            last = yield from self._epoch(epoch)
            yield from self._saved(epoch, last)
        finish = partial(self.checkpoints.finish, self.total_steps)
        yield from self._when_there_is_space(finish, self.hyper.n_epochs)

    def _plan(self, outline: Any, recipe: Recipe) -> memory.Plan:  # noqa: ANN401 - transformers' causal language model
        """Decide how the training fits into the memory, before the weights take any."""
        rank, frozen = recipe.rank, int(recipe.frozen_layers * len(outline.get_decoder().layers))
        if self.spec.adapter is not None:
            rank, frozen = size_of(self.spec.adapter)
        kept = memory.Kept(whole=self.spec.whole, averaged=recipe.average > 0)
        sizes = memory.sizes_of(outline, frozen, rank, fast_precision(device()), kept)
        load = memory.load_of((self.training, self.validation), self.hyper.batch_size)
        plan = memory.choose(sizes, load, memory.available_memory(device()))
        plan = plan._replace(pack=pack_to_resume(self.spec, self.hyper) or plan.pack)
        for examples in (self.training, self.validation):
            examples.pack = plan.pack
        return plan

    def _saved(self, epoch: int, last: StepMetrics) -> Iterator[News]:
        save = partial(self.checkpoints.save, epoch, last.step)
        yield CheckpointSaved(last, (yield from self._when_there_is_space(save, epoch)))

    def _when_there_is_space(self, save: Callable[[], Saved], epoch: int) -> Generator[DiskFull, None, Saved]:
        """Save something; on a full disk, wait for space, so that nothing trained is lost."""
        while True:
            try:
                return save()
            except (OSError, SafetensorError) as error:
                if not lacks_space(error):
                    raise ProviderError(f"{self.spec.output}: a checkpoint cannot be saved ({error})") from error
                yield DiskFull(self.spec.output, epoch)
                time.sleep(DISK_SECONDS)

    def _begin_adapter(self, recipe: Recipe) -> int:
        """Give the model the adapter to train, if it gets one; returns the number of layers that stay unchanged."""
        layers = self.model.network.get_decoder().layers
        frozen = int(recipe.frozen_layers * len(layers))
        if self.spec.adapter is not None:
            self.model.adapter = trainable(load_adapter(self.spec.adapter, self.model.network))
            return min(self.model.adapter.layers)
        if recipe.rank is not None:
            adapter = new_adapter(self.model.network, layers[frozen:], recipe.rank, recipe.alpha)
            self.model.adapter = adapter if adapter.matrices else None  # a network without linear maps trains itself
        return frozen

    def _epoch(self, epoch: int) -> Generator[StepMetrics, None, StepMetrics]:
        """Run all steps of an epoch; returns the metrics of the last one."""
        order = torch.Generator().manual_seed(self.spec.seed * 1000 + epoch)
        shuffled = torch.randperm(len(self.training.examples), generator=order)
        for step, batch in enumerate(
            torch.split(shuffled, self.hyper.batch_size), (epoch - 1) * self.steps_per_epoch + 1
        ):
            score = self._step(step, batch.tolist())
            metrics = StepMetrics(step, self.total_steps, epoch, score.loss, score.accuracy)
            metrics = self._validated(metrics, last=step == epoch * self.steps_per_epoch)
            yield metrics
        return metrics

    def _step(self, step: int, batch: list[int]) -> Score:
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak_rate * _ramp(step, self.total_steps)
        torch.manual_seed(self.spec.seed * 100_000 + step)  # for dropout: the same after a training was resumed
        score = self._score(self.training, batch, learn=True)
        # Deliberately without clipping: Adam's second moments remember the large first gradients and keep later steps
        # small. Clipped at 1, the same recipe ended with a validation loss of 0.12 instead of 0.09.
        self.masters.take_gradients()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.after_step(step)
        self.masters.give_weights()
        return score

    def _score(self, examples: ExampleSet, indices: list[int], learn: bool = False) -> Score:
        """The loss of these examples; `learn` also computes its gradient."""
        count = sum(sum(examples.examples[index].learned) for index in indices)
        loss = correct = 0.0
        for pack in examples.packs(indices, self.model.device):
            with torch.set_grad_enabled(learn):
                hidden = self.layers.hidden(pack, examples)
                sums = token_loss(hidden, self.model.head, pack.targets, self.smoothing)
            if learn:
                torch.autograd.backward(sums.loss / count)
            loss += sums.loss.item()
            correct += sums.correct.item()
        return Score(loss / count, correct / count)

    def _validated(self, metrics: StepMetrics, last: bool) -> StepMetrics:
        """Add the validation loss: of a few examples every VALIDATE_EVERY steps, of all at the end of an epoch."""
        count = len(self.validation.examples)
        if count and (last or metrics.step % VALIDATE_EVERY == 0):
            begin = metrics.step * self.hyper.batch_size
            sample = sorted({index % count for index in range(begin, begin + self.hyper.batch_size)})
            score = self._score(self.validation, sample)
            metrics = replace(metrics, valid_loss=score.loss, valid_mean_token_accuracy=score.accuracy)
        if count and last:
            full = self._score(self.validation, list(range(count)))
            metrics = replace(metrics, full_valid_loss=full.loss, full_valid_mean_token_accuracy=full.accuracy)
        return metrics

    def _example_sets(self, context: int) -> list[ExampleSet]:
        chat = load_chat(self.spec.base)
        files = (self.spec.training_file, self.spec.validation_file)
        return example_sets(*(read_examples(file, chat, context) if file else [] for file in files))


def _ramp(step: int, total: int) -> float:
    """Share of the learning rate at a step: a linear increase for the first tenth, then a linear decrease."""
    warm_up = max(1, round(WARM_UP * total))
    return min(step / warm_up, (total - step + 1) / (total - warm_up + 1))
