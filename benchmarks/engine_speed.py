"""Speed, memory and reproducibility of the local engine on the project's reviews.

    python benchmarks/engine_speed.py                    # fine-tune, then all four kinds of prompt
    python benchmarks/engine_speed.py --only fine_tuned --rows 64
    python benchmarks/engine_speed.py --base smollm2-135m-instruct --epochs 1

Reads params.yaml and its data set; writes nothing in the project. Times are wall times; run it on an idle machine.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from reviews import request_for, split_reviews, write_chat_files

from reviewtune.core.config.arms import PromptArmConfig
from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_params
from reviewtune.core.user_dirs import cache_folder
from reviewtune.data.prompts import Prompt, draw_examples
from reviewtune.data.splits import Splits
from reviewtune.local_server.engine.base_models.ensure import ensure
from reviewtune.local_server.engine.generation import generate
from reviewtune.local_server.engine.training import finetune
from reviewtune.local_server.engine.types import (
    CheckpointSaved,
    GenerationRequest,
    GenerationResult,
    StepMetrics,
    TrainingSpec,
)

PROJECT = Path(__file__).parent.parent
BATCHES = (16, 1, 64)  # the first is timed with all reviews


def main() -> None:
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = load_params(PROJECT / "params.yaml")
    parts = split_reviews(config)
    base = ensure(options.base, cache_folder())
    with tempfile.TemporaryDirectory() as temporary:
        tuned = options.tuned
        if tuned is None and "fine_tuned" in options.only:
            tuned = _train(config, base, parts, Path(temporary), options.epochs)
        for name, prompt in _ways(config, parts.train):
            if name in options.only:
                folder = tuned if name == "fine_tuned" else base
                _ask(name, folder, prompt, parts.test.iloc[: options.rows])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="gemma-3-270m")
    parser.add_argument("--tuned", type=Path, help="ask an existing fine-tune instead of training one")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--rows", type=int, help="test reviews to ask about; all without it")
    ways = ("fine_tuned", "zero_shot", "few_shot", "few_shot_cot")
    parser.add_argument("--only", nargs="+", default=ways, choices=ways)
    return parser.parse_args()


def _ways(config: Config, train: pd.DataFrame) -> Iterator[tuple[str, Prompt]]:
    yield "fine_tuned", Prompt.of(config)
    for name in ("zero_shot", "few_shot", "few_shot_cot"):
        arm = config.arms[name]
        assert isinstance(arm, PromptArmConfig)
        examples = draw_examples(train, list(config.data.labels), arm.shots, arm.seed)
        yield name, Prompt(arm.prompt, config.data.labels, arm.reasoning, examples)


def _train(config: Config, base: Path, parts: Splits, work: Path, epochs: int | None) -> Path:
    write_chat_files(work, Prompt.of(config), train=parts.train, valid=parts.valid)
    spec = TrainingSpec(
        base, work / "train.jsonl", work / "valid.jsonl", work / "tuned", config.training.seed, n_epochs=epochs
    )
    result = finetune.train(spec, _report)
    print(
        f"training: {result.wall_seconds:.0f} s, {result.steps} steps, {result.trained_tokens} tokens, "
        f"peak memory {result.peak_memory_bytes / 1e9:.1f} GB"
    )
    return result.folder


def _report(news: StepMetrics | CheckpointSaved) -> None:
    if isinstance(news, CheckpointSaved):
        print(f"  epoch {news.metrics.epoch}: held-out loss {news.metrics.full_valid_loss:.3f}", flush=True)


def _ask(name: str, folder: Path, prompt: Prompt, test: pd.DataFrame) -> None:
    start = time.perf_counter()
    generator = generate.load(folder)
    opened = time.perf_counter() - start
    requests = [request_for(prompt, text) for text in test["text"]]
    generator.complete(requests[:1])  # caches the shared prefix and builds the vocabulary's tables once
    answers, seconds = {}, {}
    for size in BATCHES:
        start = time.perf_counter()
        answers[size] = _texts(generator, requests, size)
        seconds[size] = time.perf_counter() - start
    labels = [prompt.parse(answer) for answer in answers[BATCHES[0]]]
    right = sum(label == wanted for label, wanted in zip(labels, test["label"], strict=True))
    differing = sum(len(set(same)) > 1 for same in zip(*answers.values(), strict=True))
    speeds = ", ".join(f"{len(test) / seconds[size]:.1f}/s by {size}" for size in BATCHES)
    print(
        f"{name}: {speeds}; {seconds[BATCHES[0]]:.0f} s for {len(test)} by {BATCHES[0]}; opened in {opened:.1f} s; "
        f"accuracy {right / len(test):.3f}; unusable {labels.count(None)}; "
        f"answers that depend on the batch: {differing}",
        flush=True,
    )


def _texts(generator: generate.Generator, requests: Sequence[GenerationRequest], size: int) -> list[str]:
    results: list[GenerationResult] = []
    for begin in range(0, len(requests), size):
        results += generator.complete(requests[begin : begin + size])
    return [result.choices[0].text for result in results]


if __name__ == "__main__":
    main()
