"""An exported model in plain transformers: the share of test reviews that get the same label as in the engine.

    python benchmarks/accuracy.py --keep ../work && python benchmarks/exported.py --model ../work/model

Writes what `reviewtune export` writes and opens it with transformers: its tokenizer and chat template, and greedy
`generate` that ends where the folder's generation_config.json says. transformers may write any text, while the engine
chooses among the labels. Prints the share of equal labels and both accuracies on the project's test split.
"""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from reviews import answers, split_reviews

from reviewtune.core.config.loading import load_params
from reviewtune.data.prompts import Prompt
from reviewtune.local_server.settings import prepare_torch

if TYPE_CHECKING:
    import torch

PROJECT = Path(__file__).parent.parent
BATCH = 16
ANSWER_TOKENS = 32


def main() -> None:
    options = _options()
    prepare_torch()
    import torch

    from reviewtune.local_server.engine.adapter_files import base_of, is_adapter
    from reviewtune.local_server.engine.export import Source, write

    config = load_params(PROJECT / "params.yaml")
    prompt, test = Prompt.of(config), split_reviews(config).test.head(options.rows)
    texts, truth = test["text"].tolist(), test["label"].tolist()
    with tempfile.TemporaryDirectory() as folder:
        base = base_of(options.model) if is_adapter(options.model) else None
        write(Source(options.model, base), Path(folder), adapter=False)
        theirs = _answers_of_transformers(Path(folder), prompt, texts, getattr(torch, options.dtype))
    ours = answers(options.model, prompt, texts)
    equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
    right = [sum(a == b for a, b in zip(labels, truth, strict=True)) / len(truth) for labels in (ours, theirs)]
    print(
        f"{len(texts)} test reviews, transformers in {options.dtype}: {equal} labels ({equal / len(texts):.3f}) are "
        f"those of the engine; accuracy {right[0]:.3f} in the engine, {right[1]:.3f} in transformers"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a fine-tune's folder")
    parser.add_argument("--rows", type=int, help="only so many test reviews")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    return parser.parse_args()


def _answers_of_transformers(folder: Path, prompt: Prompt, texts: list[str], dtype: "torch.dtype") -> list[str | None]:
    """Labels; None for an answer without a known label."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    labels: list[str | None] = []
    for first in range(0, len(texts), BATCH):
        chats = [prompt.messages(text) for text in texts[first : first + BATCH]]
        inputs = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        written = model.generate(**inputs, max_new_tokens=ANSWER_TOKENS)[:, inputs["input_ids"].shape[1] :]
        labels += [prompt.parse(text) for text in tokenizer.batch_decode(written, skip_special_tokens=True)]
    return labels


if __name__ == "__main__":
    main()
