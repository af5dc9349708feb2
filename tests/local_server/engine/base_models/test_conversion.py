"""A converted GGUF file is what transformers itself makes of it, with less memory."""

from pathlib import Path

import pytest

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.base_models import conversion
from reviewtune.local_server.engine.base_models.conversion import convert
from tests.support.gguf_files import write_gguf


def by_transformers(gguf_file: Path, target: Path) -> Path:
    """The model loaded completely by transformers, then saved."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    network = AutoModelForCausalLM.from_pretrained(
        gguf_file.parent,
        gguf_file=gguf_file.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    network.save_pretrained(target)
    return target


def converted(gguf_file: Path, target: Path, tied: bool = False) -> Path:
    target.mkdir()
    convert(gguf_file, target, None, tied)
    return target


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3"])
def test_the_files_are_those_of_transformers(architecture: str, tied: bool, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", architecture, tied)
    own, expected = converted(file, tmp_path / "own"), by_transformers(file, tmp_path / "expected")
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        assert (own / name).read_bytes() == (expected / name).read_bytes(), name


def test_two_copies_of_a_tied_matrix_become_the_more_precise_one(tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    file = write_gguf(tmp_path / "model.gguf", "qwen2", tied=False)
    apart = load_file(by_transformers(file, tmp_path / "apart") / "model.safetensors")
    folder = converted(file, tmp_path / "tied", tied=True)
    weights = load_file(folder / "model.safetensors")
    assert apart.keys() - weights.keys() == {"lm_head.weight"}
    assert weights["model.embed_tokens.weight"].equal(apart["lm_head.weight"])  # 8 bits per weight, not 4
    assert not weights["model.embed_tokens.weight"].equal(apart["model.embed_tokens.weight"])
    network = AutoModelForCausalLM.from_pretrained(folder)
    assert network.get_output_embeddings().weight is network.get_input_embeddings().weight


def test_a_file_without_a_weight_is_refused(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", "llama", without="blk.1.ffn_up.weight")
    with pytest.raises(ProviderError, match=r"lacks weights of LlamaForCausalLM: model.layers.1.mlp.up_proj.weight$"):
        converted(file, tmp_path / "own")


def test_a_gguf_file_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers must look up `gguf.GGUFReader` when it parses; otherwise replacing it has no effect."""
    import gguf
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    file = write_gguf(tmp_path / "model.gguf", "llama")
    parsed: list[Path] = []

    class CountingReader(gguf.GGUFReader):  # type: ignore[misc]
        def __init__(self, path: Path) -> None:
            parsed.append(path)
            super().__init__(path)

    monkeypatch.setattr(gguf, "GGUFReader", CountingReader)
    with conversion._parsed_once():
        for _ in range(3):
            load_gguf_checkpoint(file)
    assert len(parsed) == 1
    load_gguf_checkpoint(file)
    assert len(parsed) == 2
