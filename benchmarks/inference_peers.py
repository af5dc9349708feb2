"""Labels for the same prompts, side by side: the local engine and transformers' own batched `generate`.

    python benchmarks/inference_peers.py                     # the pipeline's prompts, gemma-3-270m
    python benchmarks/inference_peers.py --rows 64 --prompts zero_shot finetuned

Same model, precision and prompts: zero_shot lists the labels with their meanings, few_shot shows examples, finetuned is
the short prompt of a fine-tune, which shares almost no prefix. `generate` decodes greedily up to the length of the
longest label; the engine decodes only labels and reads the shared prefix once. Prints reviews per second with the
model loaded, the ratio, and the engine's speed as a share of what this machine's matrix products allow: 2 P operations
for each token that is not shared, where P are the weights of the layers. Run it on an idle machine.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from reviews import request_for, split_reviews

from reviewtune.core.config.arms import PromptArmConfig
from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_params
from reviewtune.core.user_dirs import cache_folder
from reviewtune.data.prompts import Message, Prompt, draw_examples
from reviewtune.local_server.settings import prepare_torch

if TYPE_CHECKING:
    from reviewtune.local_server.engine.generation.generate import Generator
    from reviewtune.local_server.engine.model_loading import LoadedModel
    from reviewtune.local_server.engine.types import GenerationRequest

PROJECT = Path(__file__).parent.parent
PROMPTS = ("zero_shot", "few_shot", "finetuned")
BATCH = 32  # rows of the peer
AT_A_TIME = 2048  # tokens of the products that bound the speed
ANSWER_TOKENS = 12  # {"label": "not_as_described"} and the end of the turn


def main() -> None:
    options = _options()
    prepare_torch()
    from reviewtune.local_server.engine.base_models.ensure import ensure
    from reviewtune.local_server.engine.generation import generate

    config = load_params(PROJECT / "params.yaml")
    parts = split_reviews(config)
    folder = ensure(options.base, cache_folder())
    generator = generate.load(folder)
    for name in options.prompts:
        prompt = _prompt(name, config, parts.train)
        requests = [request_for(prompt, text) for text in parts.test["text"][: options.rows]]
        chats = [prompt.messages(text) for text in parts.test["text"][: options.rows]]
        generator.complete(requests[:16])  # warm up: the shared prefix and one-time work
        ours = _reviews_a_second(lambda: generator.complete(requests), len(requests))  # noqa: B023 - called at once
        bound = _bound(generator, requests)
        shared = generator.complete(requests[:1])[0].cached_tokens
        few = chats[: options.peer_rows]
        _generate(generator._model, few[:2])
        peer = _reviews_a_second(lambda: _generate(generator._model, few), len(few))  # noqa: B023
        print(
            f"{name}, {shared} of the prompt's tokens shared: {ours:.1f} reviews/s, generate {peer:.2f}: "
            f"{ours / peer:.1f} times; {ours / bound:.2f} of the {bound:.1f} that matrix products allow",
            flush=True,
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="gemma-3-270m")
    parser.add_argument("--rows", type=int, default=193, help="test reviews for the engine")
    parser.add_argument("--peer-rows", type=int, default=32, help="test reviews for generate, which takes longer")
    parser.add_argument("--prompts", nargs="+", default=PROMPTS, choices=PROMPTS)
    return parser.parse_args()


def _prompt(name: str, config: Config, train: pd.DataFrame) -> Prompt:
    if name == "finetuned":
        return Prompt.of(config)
    arm = config.arms[name]
    assert isinstance(arm, PromptArmConfig)
    examples = draw_examples(train, list(config.data.labels), arm.shots, arm.seed)
    return Prompt(arm.prompt, config.data.labels, False, examples)


def _reviews_a_second(work: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def _bound(generator: "Generator", requests: list["GenerationRequest"]) -> float:
    """Reviews per second if the layers' products on the tokens of their own were all there is to compute."""
    from matrix_speed import matrix_speed

    network, results = generator._model.network, generator.complete(requests)
    weights = sum(weight.numel() for weight in network.get_decoder().layers.parameters())
    own = sum(result.prompt_tokens - result.cached_tokens for result in results) / len(results)
    config = network.config
    speed = matrix_speed(AT_A_TIME, config.hidden_size, config.intermediate_size, backward=False)
    return speed / (2 * weights * own)


def _generate(model: "LoadedModel", chats: list[list[Message]]) -> list[str]:
    """As transformers' documentation shows it: left padding, greedy."""
    import torch

    tokenizer, network = model.chat.tokenizer, model.network
    tokenizer.padding_side = "left"  # the chat template ignores it as an argument
    network.set_attn_implementation("sdpa")
    texts: list[str] = []
    for first in range(0, len(chats), BATCH):
        asked = tokenizer.apply_chat_template(
            chats[first : first + BATCH],
            add_generation_prompt=True,
            padding=True,
            return_tensors="pt",
            return_dict=True,
        ).to(network.device)
        with torch.inference_mode():
            written = network.generate(**asked, max_new_tokens=ANSWER_TOKENS, do_sample=False)
        texts += tokenizer.batch_decode(written[:, asked["input_ids"].shape[1] :], skip_special_tokens=True)
    network.set_attn_implementation("reviewtune")
    return texts


if __name__ == "__main__":
    main()
