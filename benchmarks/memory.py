"""How the estimate of a training's memory compares with what the training takes.

    python benchmarks/memory.py                                  # smollm2-135m-instruct: its recipe and adapters
    python benchmarks/memory.py --base gemma-3-270m --tokens 700
    python benchmarks/memory.py --table                          # only estimates, for 0.5 to 8 billion weights

Trains a few steps on full packs, joined from the project's reviews, each time in a fresh process. The measured memory
is the peak of the process (on CUDA: of the GPU) above what it had taken before the weights were loaded.
"""

import argparse
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from reviews import split_reviews, write_chat_files

from reviewtune.core.config.loading import load_params
from reviewtune.core.user_dirs import cache_folder
from reviewtune.data.prompts import Prompt
from reviewtune.local_server.engine.base_models.ensure import ensure
from reviewtune.local_server.engine.training.recipes import DEFAULT, Recipe, recipe_for
from reviewtune.local_server.settings import prepare_torch

PROJECT = Path(__file__).parent.parent
TOKENS_A_REVIEW = 45  # about


def main() -> None:
    options = _options()
    if options.table:
        _print_table()
        return
    base, failed = ensure(options.base, cache_folder()), 0
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        _write_examples(work, options.tokens, options.steps)
        for name, recipe in _recipes(base):
            for recompute in (False, True):
                training = multiprocessing.get_context("spawn").Process(
                    target=_measure, args=(name, base, work, recipe, recompute)
                )
                training.start()
                training.join()
                failed += training.exitcode != 0
    if failed:
        sys.exit(f"memory.py: {failed} of the trainings failed")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--tokens", type=int, default=250, help="of an example, about")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="print estimates and train nothing")
    return parser.parse_args()


def _print_table() -> None:
    """Estimates in GB for adapters: short reviews and long examples; plain, recomputing, and with small packs."""
    import torch
    from random_model import SIZES, config_of
    from transformers import AutoModelForCausalLM

    from reviewtune.local_server.engine.training import memory

    ways = [memory.Plan(False, memory.PACK), memory.Plan(True, memory.PACK), memory.Plan(True, memory.PACKS[-1])]
    reviews, long = memory.Load(600, 150, 11, 40_000), memory.Load(8_000, 1_000, 11, 600_000)
    for size in list(SIZES)[1:]:
        with torch.device("meta"):
            network = AutoModelForCausalLM.from_config(config_of(size))
        frozen = int(DEFAULT.frozen_layers * network.config.num_hidden_layers)
        for dtype in (torch.bfloat16, torch.float32):
            sizes = memory.sizes_of(network, frozen, DEFAULT.rank, dtype)
            needs = [memory.need(sizes, load, way) / 1e9 for load in (reviews, long) for way in ways]
            columns = " | ".join(f"{need:.1f}" for need in needs)
            print(f"| {sizes.weights / 1e9:.1f} billion, {str(dtype).removeprefix('torch.')} | {columns} |")


def _recipes(base: Path) -> Iterator[tuple[str, Recipe]]:
    own = recipe_for(base)
    if own.rank is None:
        yield "own weights", own
    yield "adapters", own if own.rank else DEFAULT


def _write_examples(work: Path, tokens: int, steps: int) -> None:
    config = load_params(PROJECT / "params.yaml")
    train = split_reviews(config).train
    count = max(1, tokens // TOKENS_A_REVIEW)
    rows = steps * DEFAULT.batch_size
    labels = train["label"][:rows].to_list()
    texts = [" ".join(train["text"].sample(count, random_state=row)) for row in range(rows)]
    write_chat_files(work, Prompt.of(config), train=pd.DataFrame({"text": texts, "label": labels}))


def _measure(name: str, base: Path, work: Path, recipe: Recipe, recompute: bool) -> None:
    """Train once and print a line."""
    prepare_torch()
    from reviewtune.local_server.engine.model_loading import device, fast_precision, without_weights
    from reviewtune.local_server.engine.training import finetune, memory
    from reviewtune.local_server.engine.types import StepMetrics, TrainingSpec

    place = device()
    before = memory.peak_memory(place)
    plan = memory.Plan(recompute, memory.PACK)
    memory.choose = lambda *_: plan
    output = work / f"{name}-{recompute}"
    spec = TrainingSpec(base, work / "train.jsonl", None, output, seed=13, n_epochs=1)
    course = finetune.TrainingRun(spec, recipe)
    steps = sum(isinstance(news, StepMetrics) for news in course.run())
    frozen = int(recipe.frozen_layers * len(course.model.network.get_decoder().layers))
    sizes = memory.sizes_of(without_weights(base), frozen, recipe.rank, fast_precision(place))
    load = memory.load_of((course.training, course.validation), course.hyper.batch_size)
    estimate, taken = memory.need(sizes, load, plan), memory.peak_memory(place) - before
    print(
        f"{base.name}, {name}, {sizes.number * 8} bits, {'recomputing' if recompute else 'plain'}: estimated "
        f"{estimate / 1e9:.2f} GB, measured {taken / 1e9:.2f} GB in {steps} steps: {estimate / taken:.2f} times; "
        f"batches of {load.batch} tokens, examples of {load.longest}",
        flush=True,
    )


if __name__ == "__main__":
    main()
