"""A model with random weights whose answers end: many clients set no limit, and refuse an answer that was cut off."""

import shutil
from pathlib import Path

ENDINGS = ("<|im_end|>", '"', "}", "]")
LIKELY = 0.7  # makes an ending about 50 times as likely as another token
BEFORE_THE_ANSWER = "Ċ"  # the line break after `assistant`, as the tokenizer writes it


def make_ending_model(tiny_model: Path, folder: Path) -> Path:
    """Copy the tiny model, and make endings likely after any token but the one before the answer.

    The first number of each token's embedding outweighs the others, so the layers hardly change it. The output matrix,
    which is separate here, reads it for the endings only.

    Args:
        tiny_model: the model's folder.
        folder: the folder of the copy.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    shutil.copytree(tiny_model, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder, tie_word_embeddings=False)
    with torch.no_grad():
        read, written = network.get_input_embeddings().weight, network.get_output_embeddings().weight
        written.copy_(read)
        read[:, 0], written[:, 0] = 1.0, 0.0
        read[tokenizer.convert_tokens_to_ids(BEFORE_THE_ANSWER), 0] = -1.0
        written[tokenizer.convert_tokens_to_ids(list(ENDINGS)), 0] = LIKELY
    network.save_pretrained(folder)
    return folder
