"""An exported model gives the same answers in other programs, and a failed export leaves nothing."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from reviewtune.core.config.config import Config
from reviewtune.data.prompts import Prompt
from reviewtune.deployment.export import ExportOptions, export
from reviewtune.deployment.export_folder import MARKER
from reviewtune.errors import ConfigError, DataError, ProviderError
from tests.support.exports import REVIEWS, account, hyperparameters, model, project, run_python_of, save, settings
from tests.support.serving import running

pytestmark = pytest.mark.model
__all__ = ["account", "hyperparameters", "model", "project", "save", "settings"]
PART_OF_A_CHARACTER = "\ufffd"  # how every token looks that is only a part of one


def files_of(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def next_tokens_of(folder: Path, prompt: Prompt, text: str) -> dict[str, float]:
    """The five most likely beginnings of an answer in plain transformers, with their log-probabilities."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    asked = tokenizer.apply_chat_template(
        prompt.messages(text), add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    with torch.inference_mode():
        best = model(**asked).logits[0, -1].float().log_softmax(-1).topk(5)
    return dict(zip(tokenizer.batch_decode(best.indices[:, None]), best.values.tolist(), strict=True))


def test_plain_transformers_computes_what_the_server_does(
    save: Any, model: str, account: Path, tiny_model: Path, settings: Config, tmp_path: Path
) -> None:
    prompt = Prompt.of(settings)
    texts = [*REVIEWS, "a", "delivery_delay"]
    with running(account, "--base-model", str(tiny_model)) as server:
        record = save(model)  # while the server runs
        ask: Any = server.client.chat.completions.create
        limits = {"temperature": 0, "max_completion_tokens": 1, "logprobs": True, "top_logprobs": 5}
        asked = [ask(model=model, messages=prompt.messages(text), **limits) for text in texts]
    served = [answer.choices[0].logprobs.content[0].top_logprobs for answer in asked]
    plain = [next_tokens_of(tmp_path / "out", prompt, text) for text in texts]
    for ours, theirs in zip(served, plain, strict=True):
        assert ours[0].logprob == pytest.approx(next(iter(theirs.values())), abs=0.02)
        shared = [top for top in ours if top.token in theirs and top.token != PART_OF_A_CHARACTER]
        assert shared
        assert [top.logprob for top in shared] == pytest.approx([theirs[top.token] for top in shared], abs=0.02)
    assert record.job_id.startswith("ftjob-")
    assert len(record.training_sha256) == 64


def test_the_folder_holds_what_other_programs_need(save: Any, model: str, settings: Config, tmp_path: Path) -> None:
    save(model)
    folder, prompt = tmp_path / "out", Prompt.of(settings)
    wanted = {"README.md", "Modelfile", MARKER, "model.safetensors", "config.json", "tokenizer.json"}
    assert wanted | {"chat_template.jinja", "generation_config.json"} <= set(files_of(folder))
    assert {oct(file.stat().st_mode & 0o444) for file in folder.iterdir()} == {oct(0o444)}
    assert json.loads((folder / "generation_config.json").read_text())["do_sample"] is False
    template = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    assert template == (folder / "chat_template.jinja").read_text()
    page = (folder / "README.md").read_text()
    for text in (prompt.system, prompt.settings.user, *prompt.labels, *prompt.labels.values(), model):
        assert text in page
    request = json.loads(re.findall(r"```json\n(.*?)```", page, re.DOTALL)[0])
    assert request["response_format"] == prompt.response_format
    assert request["messages"][0]["content"] == prompt.system
    run_python_of(folder)


def test_the_modelfile_writes_what_the_chat_template_writes(
    save: Any, model: str, settings: Config, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    save(model)
    text = (tmp_path / "out" / "Modelfile").read_text()
    template, system = (re.findall(rf'{name} """(.*?)"""', text, re.DOTALL)[0] for name in ("TEMPLATE", "SYSTEM"))
    shown = template.replace("{{ .System }}", system).replace("{{ .Prompt }}", "Review: late")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    expected = tokenizer.apply_chat_template(
        Prompt.of(settings).messages("late"), add_generation_prompt=True, tokenize=False
    )
    assert shown == f"{expected}{{{{ .Response }}}}<|im_end|>"


def test_a_checkpoint_and_a_base_model(save: Any, model: str, base: str, tmp_path: Path) -> None:
    checkpoint = save(f"{model}:ckpt-step-90", out=tmp_path / "checkpoint")
    assert checkpoint.job_id
    record = save(base, out=tmp_path / "base")
    assert (record.job_id, record.base_model) == ("", base)
    page = (tmp_path / "base" / "README.md").read_text()
    assert "as one label of this list" in page


def test_an_earlier_export_is_replaced_only_with_force(save: Any, model: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    save(model)
    with pytest.raises(DataError, match="an earlier export is there"):
        save(model)
    (out / "note").touch()
    save(model, force=True)
    assert "note" not in files_of(out)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").touch()
    with pytest.raises(DataError, match="files that no export wrote"):
        save(model, out=other, force=True)
    assert files_of(other) == ["mine"]
    assert files_of(tmp_path) == ["other", "out", "project"] or "answers" in files_of(tmp_path)
    assert not list(tmp_path.glob(".*.partial"))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("ft:tiny:local::00000000", "there is no model 'ft:tiny:local::00000000' in the account .* it has ft:"),
        ("gemma", "there is no model 'gemma'"),
        ("ft:gpt-4o-mini-2024-07-18:org::abc", "hosted models cannot be exported"),
        ("no/such-folder-or-hub", "base model 'no/such-folder-or-hub' cannot be fetched"),
    ],
)
def test_a_model_that_is_not_there(
    name: str, why: str, save: Any, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ProviderError, match=why):
        save(name, out=tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()


def test_whole_weights_have_no_adapter(save: Any, model: str, tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="stored as whole weights, so there is no adapter"):
        save(model, adapter=True)
    assert not (tmp_path / "out").exists()


def test_a_model_of_another_prompt_is_refused(
    model: str, settings: Config, project: Path, account: Path, tmp_path: Path
) -> None:
    other = settings.prompt.model_copy(update={"system": "Name it."})
    config = settings.model_copy(update={"prompt": other})
    with pytest.raises(ConfigError, match="trained with another prompt"):
        export(ExportOptions(model=model, out=tmp_path / "out", data_dir=account), config, project)
    assert not (tmp_path / "out").exists()


def test_weights_that_are_gone_or_damaged(save: Any, model: str, account: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(account, tmp_path / "copy"))
    (weights,) = copy.glob("models/*/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ProviderError, match=r"model\.safetensors is damaged: it is not complete"):
        save(model, data_dir=copy)
    weights.unlink()
    with pytest.raises(ProviderError, match="has no weights"):
        save(model, data_dir=copy)
    shutil.rmtree(weights.parent)
    with pytest.raises(ProviderError, match="are gone: there is no folder"):
        save(model, data_dir=copy)
    assert not (tmp_path / "out").exists()


def test_the_account_is_only_read(save: Any, model: str, account: Path) -> None:
    def state() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in account.rglob("*") if file.is_file() and "-" not in file.suffix}

    before = state()
    save(model)
    assert state() == before


COMMAND = """
import sys
from pathlib import Path
from reviewtune.core.config.loading import load_params
from reviewtune.deployment.export import ExportOptions, export
from reviewtune.core.terminal.entry_point import program
from reviewtune.core.terminal.progress import TerminalProgress
model, out, account, project = sys.argv[1:]
with program():
    options = ExportOptions(model=model, out=Path(out), data_dir=Path(account))
    export(options, load_params(Path("params.yaml")), Path(project), progress=TerminalProgress())
"""


def started(model: str, account: Path, place: Path, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", COMMAND, model, str(place / "new" / "out"), str(account), str(place)]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, start_new_session=True, **pipes, **options)


def test_a_full_disk_leaves_nothing(model: str, account: Path, tmp_path: Path) -> None:
    """A limit of the size of a file takes the place of the disk's."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    process = started(model, account, tmp_path, preexec_fn=limit)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    (line,) = errors.splitlines()
    assert line.startswith("error: ")
    assert "large" in line
    assert not (tmp_path / "new").exists()


def test_ctrl_c_leaves_nothing(model: str, account: Path, tmp_path: Path) -> None:
    process = started(model, account, tmp_path)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("new/.out.*.partial")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "interrupted: run the same command again to continue\n")
    assert not (tmp_path / "new").exists()


def test_what_a_killed_export_left_is_removed_by_the_next_one(save: Any, model: str, tmp_path: Path) -> None:
    left = tmp_path / ".out.4194999.partial"  # above the largest process id
    left.mkdir()
    (left / "model.safetensors").touch()
    save(model)
    assert not left.exists()
