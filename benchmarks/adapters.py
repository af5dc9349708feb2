"""What an adapter that stays apart costs when a model answers, compared with one that is added to the weights.

    python benchmarks/adapters.py                                        # smollm2-135m-instruct
    python benchmarks/adapters.py --base gemma-3-270m --rank 8

Trains an adapter of the upper half of the layers with a few reviews. Then the model with the adapter apart and the one
with merged weights label the same reviews with the short prompt, in turn 40 at a time (--together), so that a busy
machine affects both alike. Prints the median ratio of these turns, in wall time and in CPU time, which other programs
affect less.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from reviews import request_for, split_reviews, write_chat_files

from reviewtune.core.config.loading import load_params
from reviewtune.core.user_dirs import cache_folder
from reviewtune.data.prompts import Prompt
from reviewtune.local_server.settings import prepare_torch

prepare_torch()

import torch  # noqa: E402 - after the threads' wait policy is set

from reviewtune.local_server.engine.adapters import merged  # noqa: E402
from reviewtune.local_server.engine.attention import ATTENTION  # noqa: E402
from reviewtune.local_server.engine.base_models.ensure import ensure  # noqa: E402
from reviewtune.local_server.engine.generation.generate import Generator  # noqa: E402
from reviewtune.local_server.engine.model_loading import (  # noqa: E402
    LoadedModel,
    device,
    fast_precision,
    load_model,
    load_weights,
)
from reviewtune.local_server.engine.training import finetune  # noqa: E402
from reviewtune.local_server.engine.training.recipes import Recipe  # noqa: E402
from reviewtune.local_server.engine.types import GenerationRequest, TrainingSpec  # noqa: E402

PROJECT = Path(__file__).parent.parent
ROWS = 32  # of the training
LIMIT = 1.1  # times the time of merged weights


def main() -> None:
    options = _options()
    config = load_params(PROJECT / "params.yaml")
    train, prompt = split_reviews(config).train, Prompt.of(config)
    base = ensure(options.base, cache_folder())
    requests = [request_for(prompt, text) for text in train["text"][ROWS : ROWS + options.reviews]]
    with tempfile.TemporaryDirectory() as work:
        write_chat_files(Path(work), prompt, train=train[:ROWS])
        folder = _adapter(base, Path(work), options.rank)
        apart = load_model(folder, fast_precision(device()), ATTENTION, base)
        models = Generator(apart), Generator(_merged(base, apart))
        turns = [turn for _ in range(options.rounds) for turn in _turns(models, requests, options.together)]
    same = sum(one == other for turn in turns[: len(turns) // options.rounds] for one, other in turn.answers)
    wall, cpu = (median(turn.ratios[number] for turn in turns) for number in range(2))
    load = f"load {os.getloadavg()[0]:.1f}"
    print(f"{load}; {options.base}, rank {options.rank}: {same} of {len(requests)} answers equal")
    print(f"apart took {wall:.3f} times as long as merged, {cpu:.3f} times the CPU time (at most {LIMIT})")
    print("each turn: " + ", ".join(f"{turn.ratios[0]:.2f}" for turn in turns))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--reviews", type=int, default=200)
    parser.add_argument("--together", type=int, default=40, help="reviews before the other model has its turn")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def _adapter(base: Path, work: Path, rank: int) -> Path:
    spec = TrainingSpec(base, work / "train.jsonl", None, work / "model", seed=13, n_epochs=1)
    for _ in finetune.TrainingRun(spec, Recipe(5e-4, frozen_layers=0.5, batch_size=8, rank=rank)).run():
        pass
    return spec.output


@torch.no_grad()
def _merged(base: Path, apart: LoadedModel) -> LoadedModel:
    """A private copy of the base with the adapter added to its weights."""
    assert apart.adapter is not None
    model = load_weights(base, fast_precision(device()), ATTENTION)
    own = dict(model.network.named_parameters())
    for name, weight in merged(apart.network, apart.adapter):
        own[name].copy_(weight)
    return model


class Turn(NamedTuple):
    """The same reviews, labelled by both models."""

    ratios: tuple[float, ...]  # of the wall time and of the CPU time
    answers: list[tuple[str, str]]


def _turns(models: Sequence[Generator], requests: Sequence[GenerationRequest], together: int) -> Iterator[Turn]:
    for model in models:
        model.complete(requests[:together])  # one-time work
    for begin in range(0, len(requests), together):
        seconds, answers = [], []
        for model in models:
            started = time.perf_counter(), time.process_time()
            results = model.complete(requests[begin : begin + together])
            seconds.append((time.perf_counter() - started[0], time.process_time() - started[1]))
            answers.append([result.choices[0].text for result in results])
        ratios = tuple(apart / merged for apart, merged in zip(*seconds, strict=True))
        yield Turn(ratios, list(zip(*answers, strict=True)))


if __name__ == "__main__":
    main()
