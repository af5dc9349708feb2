"""What an adapter that stays apart costs when a model answers, compared with one that is added to the weights.

    python benchmarks/adapters.py                                        # smollm2-135m-instruct
    python benchmarks/adapters.py --base gemma-3-270m --rank 8

Trains an adapter of the upper half of the layers with a few reviews. Then the model with the adapter apart and the one
with merged weights label the same reviews with the short prompt, in turn 40 at a time, so that a busy machine affects
both alike. Prints the ratio of the median times.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from reviews import request_for, split_reviews, write_chat_files

from reviewtune.core.config.loading import load_params
from reviewtune.core.user_dirs import cache_folder
from reviewtune.data.prompts import Prompt
from reviewtune.local_server.settings import share_the_cores

share_the_cores()

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
TOGETHER = 40  # reviews before the other model has its turn
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
        models = {"apart": Generator(apart), "merged": Generator(_merged(base, apart))}
        rounds = [_round(models, requests) for _ in range(options.rounds + 1)][1:]  # the first does one-time work
    seconds = {name: [taken[name] for taken, _ in rounds] for name in models}
    answers = rounds[0][1]
    for name, each in seconds.items():
        print(f"{name:6} {median(each):6.2f} s ({', '.join(f'{taken:.2f}' for taken in each)})")
    same = sum(one == other for one, other in zip(*answers.values(), strict=True))
    print(
        f"load {os.getloadavg()[0]:.1f}; {options.base}, rank {options.rank}: {same} of {len(requests)} answers equal"
    )
    ratio = median(seconds["apart"]) / median(seconds["merged"])
    print(f"apart took {ratio:.3f} times as long as merged (at most {LIMIT})")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--reviews", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
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


def _round(
    models: Mapping[str, Generator], requests: Sequence[GenerationRequest]
) -> tuple[dict[str, float], dict[str, list[str]]]:
    """The seconds and the answers of each model."""
    seconds, texts = dict.fromkeys(models, 0.0), {name: list[str]() for name in models}
    for begin in range(0, len(requests), TOGETHER):
        for name, generator in models.items():
            started = time.perf_counter()
            results = generator.complete(requests[begin : begin + TOGETHER])
            seconds[name] += time.perf_counter() - started
            texts[name] += [result.choices[0].text for result in results]
    return seconds, texts


if __name__ == "__main__":
    main()
