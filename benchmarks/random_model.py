"""Trains and asks a model of a given size with random weights: its speed and memory need no download.

    python benchmarks/random_model.py --size 7b            # a GPU with 24 GB, 16 GB of disk
    python benchmarks/random_model.py --size tiny          # anywhere

The architecture is Qwen2's; tokenizer and chat template are those of a base model at hand. The training data are the
project's reviews. Answers are meaningless, but cost what real ones cost. Prints tokens a second and the peak memory.
"""

import argparse
import gc
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from reviews import request_for, split_reviews, write_chat_files

from reviewtune.core.config.loading import load_params
from reviewtune.core.user_dirs import cache_folder
from reviewtune.data.prompts import Prompt
from reviewtune.data.splits import Splits
from reviewtune.local_server.settings import prepare_torch

prepare_torch()

import torch  # noqa: E402 - after the threads' wait policy is set
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config  # noqa: E402

from reviewtune.local_server.engine.base_models.ensure import ensure  # noqa: E402
from reviewtune.local_server.engine.generation import generate  # noqa: E402
from reviewtune.local_server.engine.model_loading import device, fast_precision  # noqa: E402
from reviewtune.local_server.engine.training import finetune, memory  # noqa: E402
from reviewtune.local_server.engine.types import GenerationRequest, TrainingSpec  # noqa: E402

PROJECT = Path(__file__).parent.parent
SIZES = {  # width, inner width, layers, heads, key heads, vocabulary: of Qwen2.5, and at last of Llama 3.1
    "tiny": (64, 128, 4, 4, 2, 50_000),
    "0.5b": (896, 4864, 24, 14, 2, 151_936),
    "1.5b": (1536, 8960, 28, 12, 2, 151_936),
    "3b": (2048, 11008, 36, 16, 2, 151_936),
    "7b": (3584, 18944, 28, 28, 4, 152_064),
    "8b": (4096, 14336, 32, 32, 8, 128_256),
}
FREE_TEXT = 64  # tokens


def main() -> None:
    options = _options()
    config = load_params(PROJECT / "params.yaml")
    parts, prompt = split_reviews(config), Prompt.of(config)
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        work = Path(temporary)
        start = time.perf_counter()
        base = make_model(options.size, ensure(options.tokenizer, cache_folder()), work / "base")
        _say(f"written in {time.perf_counter() - start:.0f} s")
        _train(base, work, prompt, parts, options.steps)
        _ask(work / "tuned", prompt, parts, options.rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="7b")
    parser.add_argument("--tokenizer", default="smollm2-135m-instruct", help="the base model whose tokenizer is used")
    parser.add_argument("--steps", type=int, default=20, help="of training")
    parser.add_argument("--rows", type=int, default=64, help="test reviews to ask about")
    parser.add_argument("--folder", type=Path, help="where the weights are written for a while")
    return parser.parse_args()


def config_of(size: str) -> Qwen2Config:
    width, inner, layers, heads, key_heads, vocabulary = SIZES[size]
    return Qwen2Config(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        vocab_size=vocabulary,
        max_position_embeddings=8192,
        tie_word_embeddings=size not in {"7b", "8b"},
    )


def make_model(size: str, tokenizer: Path, folder: Path) -> Path:
    """A folder with a model of random weights, in bf16."""
    chat = AutoTokenizer.from_pretrained(tokenizer)
    config = config_of(size)
    config.bos_token_id, config.eos_token_id = chat.bos_token_id, chat.eos_token_id
    torch.manual_seed(0)
    with torch.device(device()):
        network = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    _say(f"{sum(weight.numel() for weight in network.parameters()) / 1e9:.3f} billion weights")
    network.save_pretrained(folder, max_shard_size="4GB")
    chat.save_pretrained(folder)
    return folder


def _train(base: Path, work: Path, prompt: Prompt, parts: Splits, steps: int) -> None:
    _free()
    rows = parts.train.iloc[: steps * finetune.recipe_for(base).batch_size]
    write_chat_files(work, prompt, train=rows)
    spec = TrainingSpec(base, work / "train.jsonl", None, work / "tuned", seed=13, n_epochs=1)
    start = time.perf_counter()
    course = finetune.TrainingRun(spec)
    opened = time.perf_counter()
    for _ in course.run():
        pass
    seconds = time.perf_counter() - opened
    peak = memory.peak_memory(course.model.device)
    needed = _estimate(base, course)
    _say(
        f"training: {course.plan}, opened in {opened - start:.0f} s; {course.total_steps} steps, "
        f"{course.training.tokens / seconds:.0f} tokens/s, {seconds / course.total_steps:.2f} s a step, lower layers "
        f"and saving included; peak memory {peak / 1e9:.1f} GB (without CUDA: of the whole process), "
        f"estimated {needed / 1e9:.1f} GB"
    )


def _estimate(base: Path, course: finetune.TrainingRun) -> int:
    recipe, outline = finetune.recipe_for(base), finetune.without_weights(base)
    frozen = int(recipe.frozen_layers * len(outline.get_decoder().layers))
    sizes = memory.sizes_of(outline, frozen, recipe.rank, fast_precision(device()))
    return memory.need(sizes, memory.load_of((course.training,), course.hyper.batch_size), course.plan)


def _ask(folder: Path, prompt: Prompt, parts: Splits, rows: int) -> None:
    _free()
    start = time.perf_counter()
    generator = generate.load(folder)
    _say(f"opened for answers in {time.perf_counter() - start:.0f} s")
    labels = [request_for(prompt, text) for text in parts.test["text"].iloc[:rows]]
    texts = [replace(request, schema=None, max_tokens=FREE_TEXT, logit_bias=_no_end(generator)) for request in labels]
    generator.complete(labels[:1])  # caches the shared prefix
    for name, requests in (("labels", labels), ("free texts", texts)):
        seconds, tokens = _timed(generator, requests)
        _say(f"{name}: {len(requests) / seconds:.1f} answers/s, {tokens / seconds:.0f} tokens/s written")
    _say(f"peak memory of answering {memory.peak_memory(device()) / 1e9:.1f} GB (without CUDA: of all so far)")


def _no_end(generator: generate.Generator) -> dict[int, float]:
    return dict.fromkeys(generator._ends, -1e4)


def _timed(generator: generate.Generator, requests: list[GenerationRequest]) -> tuple[float, int]:
    start = time.perf_counter()
    results = generator.complete(requests)
    seconds = time.perf_counter() - start
    return seconds, sum(choice.completion_tokens for result in results for choice in result.choices)


def _free() -> None:
    """Give back what earlier parts have used, so that the next one has its own peak."""
    gc.collect()  # a network and its layers' replaced functions refer to each other
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
