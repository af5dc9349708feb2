"""How the cost of a fine-tune grows with rows, epochs and tokens, and how far it is from the arithmetic alone.

    python benchmarks/training_cost.py                                    # smollm2-135m-instruct: a few minutes
    python benchmarks/training_cost.py --base gemma-3-270m --picture docs/images/training_cost.png
    python benchmarks/training_cost.py --base qwen2.5-coder-1.5b-instruct --bound --rows 112    # only the bound

Each of the three grows by 1, 4 and 16 while the others stay fixed; longer texts are joined reviews. Prints the exponent
of the growth in seconds (1: proportional; below 1: part of the cost is paid only once).

The bound is the arithmetic of the recipe on all training reviews, 2 P_low N + 6 P_top N E + 4 P_head L E: the frozen
lower layers read N tokens once, the upper layers train on them in each of E epochs, and the output matrix is applied to
the L trained tokens. An adapter has 4 instead of 6, because its base gets no gradient. Two measured speeds of this
machine turn it into seconds: that of large matrix products, and that of products as large as a training step's, with
matrices that do not fit into the cache.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from reviews import split_reviews, write_chat_files

from reviewtune.core.config.loading import load_params
from reviewtune.core.user_dirs import cache_folder
from reviewtune.data.prompts import Prompt
from reviewtune.local_server.settings import prepare_torch

prepare_torch()

from matrix_speed import matrix_speed  # noqa: E402 - after the threads' wait policy is set

from reviewtune.core.plotting import BLUE, GREEN, GREY, ORANGE, new_figure, open_axes, png_of  # noqa: E402
from reviewtune.local_server.engine.base_models.ensure import ensure  # noqa: E402
from reviewtune.local_server.engine.training import finetune  # noqa: E402
from reviewtune.local_server.engine.training.recipes import recipe_for  # noqa: E402
from reviewtune.local_server.engine.types import TrainingSpec  # noqa: E402

PROJECT = Path(__file__).parent.parent
TIMES = (1, 4, 16)
ROWS = 28  # of the smallest training; 16 times as many are almost all reviews
COLOURS = {"rows": BLUE, "epochs": ORANGE, "tokens": GREEN}


class Cost(NamedTuple):
    seconds: float
    course: finetune.TrainingRun


def main() -> None:
    options = _options()
    config = load_params(PROJECT / "params.yaml")
    train = split_reviews(config).train
    prompt = Prompt.of(config)
    base = ensure(options.base, cache_folder())
    _train(base, prompt, train[:ROWS], epochs=1)  # warm up: one-time work
    if not options.bound:
        _growth(options, base, prompt, train)
    _bound(_train(base, prompt, train[: options.rows], None))


def _growth(options: argparse.Namespace, base: Path, prompt: Prompt, train: pd.DataFrame) -> None:
    seconds_by_size = {name: [_train(base, prompt, *size).seconds for size in _sizes(name, train)] for name in COLOURS}
    for name, seconds in seconds_by_size.items():
        power = math.log(seconds[-1] / seconds[0]) / math.log(TIMES[-1])
        each = ", ".join(f"{times} x {taken:.1f} s" for times, taken in zip(TIMES, seconds, strict=True))
        print(f"{name:6} {each}: grows with the power {power:.2f}")
    if options.picture:
        options.picture.write_bytes(_picture(seconds_by_size, options.base))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--bound", action="store_true", help="only one training, against its bound")
    parser.add_argument("--rows", type=int, help="reviews of that training; all without it")
    parser.add_argument("--picture", type=Path, help="a PNG of the three curves")
    return parser.parse_args()


def _sizes(name: str, train: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, int]]:
    for times in TIMES:
        if name == "rows":
            yield train[: ROWS * times], 1
        elif name == "epochs":
            yield train[:ROWS], times
        else:
            texts = [" ".join(train["text"][row * times : (row + 1) * times]) for row in range(ROWS)]
            yield train[:ROWS].assign(text=texts), 1


def _train(base: Path, prompt: Prompt, rows: pd.DataFrame, epochs: int | None) -> Cost:
    """Seconds from a loaded model to a saved one."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_chat_files(work, prompt, train=rows)
        spec = TrainingSpec(base, work / "train.jsonl", None, work / "model", seed=13, n_epochs=epochs)
        course = finetune.TrainingRun(spec)
        start = time.perf_counter()
        for _ in course.run():
            pass
        return Cost(time.perf_counter() - start, course)


def _bound(cost: Cost) -> None:
    course = cost.course
    network, learned, epochs = course.model.network, course.training, course.hyper.n_epochs
    head, layers = course.model.head.numel(), network.get_decoder().layers
    frozen = int(recipe_for(course.spec.base).frozen_layers * len(layers))
    low, top = (sum(w.numel() for w in part.parameters()) for part in (layers[:frozen], layers[frozen:]))
    passes = 4 if course.model.adapter else 6  # an adapter needs no gradient of the layers' own weights
    tokens, targets = learned.tokens, sum(sum(example.learned) for example in learned.examples)
    work = 2 * low * tokens + passes * top * tokens * epochs + 4 * head * targets * epochs
    print(f"all {len(learned.examples)} reviews, {epochs} epochs: {work / 1e12:.0f} TFLOP in {cost.seconds:.0f} s")
    config = network.config
    step = learned.tokens // len(learned.examples) * course.hyper.batch_size
    sizes = {"large products": (2048, 2048, 2048), "a step's": (step, config.hidden_size, config.intermediate_size)}
    for name, size in sizes.items():
        speed = matrix_speed(*size, backward=True)
        print(f"  {name} run at {speed / 1e12:.2f} TFLOP/s: {cost.seconds / (work / speed):.1f} times their bound")


def _picture(seconds_by_size: dict[str, list[float]], base: str) -> bytes:
    figure, axes = new_figure(6, 4)
    for name, seconds in seconds_by_size.items():
        axes.plot(TIMES, seconds, "o-", color=COLOURS[name], label=name)
    first = min(seconds[0] for seconds in seconds_by_size.values())
    axes.plot(TIMES, [first * times for times in TIMES], "--", color=GREY, label="in proportion")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_xticks(TIMES, [f"{times} x" for times in TIMES])
    axes.set(xlabel="times as many", ylabel="seconds", title=f"What a fine-tune of {base} costs")
    axes.legend(frameon=False)
    open_axes(axes)
    return png_of(figure)


if __name__ == "__main__":
    main()
