"""A real server process and the genuine openai client, with a model small enough to train in a second."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import openai
import psutil
import pytest
from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob

from tests.support import warm_commands

T = TypeVar("T")
LONGEST_PAUSE = 0.1  # seconds
LABELS = ("billing", "delivery", "quality")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class ServerProcess:
    """One `python -m reviewtune.local_server`, ready once its address answers."""

    def __init__(self, data_dir: Path, *options: str, api_key: str | None = None, warm_trainings: bool = False) -> None:
        self.data_dir = data_dir
        self.log = data_dir.with_name(f"{data_dir.name}.log")
        environment = {key: value for key, value in os.environ.items() if key != "REVIEWTUNE_API_KEY"}
        environment |= {"REVIEWTUNE_API_KEY": api_key} if api_key else {}
        environment["OMP_NUM_THREADS"] = "1"  # more threads slow down a model of two layers
        if warm_trainings:
            environment = warm_commands.with_warm_trainings(environment)
        command = [sys.executable, "-m", "reviewtune.local_server", "--port", "0", "--data-dir", str(data_dir)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*command, *options], stderr=log, env=environment)
        self.announced = self._wait_until_announced()
        self.base_url: str = self.announced["base_url"]
        self.client = openai.OpenAI(base_url=self.base_url, api_key=api_key or "any", max_retries=0, timeout=120)

    def _wait_until_announced(self) -> dict[str, Any]:
        def announced() -> dict[str, Any] | None:
            assert self.process.poll() is None, self.log.read_text()
            try:
                content: dict[str, Any] = json.loads((self.data_dir / "server.json").read_text())
            except FileNotFoundError:
                return None
            return content if content["pid"] == self.process.pid else None

        return wait_for(announced, 120)  # seconds; a busy machine needs that long

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def trainer(self, job_id: str) -> psutil.Process | None:
        """The process that trains a job, if it is running."""
        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or []
            if "reviewtune.local_server.fine_tuning.trainer" in command and command[-1].endswith(job_id):
                return process
        return None


def wait_for(probe: Callable[[], T | Literal[False] | None], seconds: float = 60) -> T:
    """The first answer of `probe` that is not None or False.

    The pauses grow, because a probe, such as a request, takes the core from the process that is waited for.
    """
    deadline, pause = time.monotonic() + seconds, 0.01
    while time.monotonic() < deadline:
        if result := probe():
            return result
        time.sleep(pause)
        pause = min(pause * 1.1, LONGEST_PAUSE)
    raise AssertionError(f"nothing within {seconds} s")


@contextmanager
def running(
    data_dir: Path, *options: str, api_key: str | None = None, warm_trainings: bool = False
) -> Iterator[ServerProcess]:
    server = ServerProcess(data_dir, *options, api_key=api_key, warm_trainings=warm_trainings)
    try:
        yield server
    finally:
        server.client.close()
        if server.process.poll() is None:
            server.stop()


def example(index: int) -> dict[str, Any]:
    label = LABELS[index % len(LABELS)]
    return {
        "messages": [
            {"role": "system", "content": "Name the issue."},
            {"role": "user", "content": f"{label} was bad, case {index}"},
            {"role": "assistant", "content": label},
        ]
    }


def jsonl(lines: Sequence[object]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def upload(
    client: openai.OpenAI, lines: Sequence[object], purpose: Any = "fine-tune", name: str = "a.jsonl"
) -> FileObject:
    return client.files.create(file=(name, jsonl(lines)), purpose=purpose)


def finished(client: openai.OpenAI, job_id: str, seconds: float = 120) -> FineTuningJob:
    def probe() -> FineTuningJob | None:
        job = client.fine_tuning.jobs.retrieve(job_id)
        return job if job.status in ("succeeded", "failed", "cancelled") else None

    return wait_for(probe, seconds)


def steps_of(client: openai.OpenAI, job_id: str) -> list[int]:
    """The steps of a job's metrics events, oldest first."""
    events: list[Any] = list(client.fine_tuning.jobs.list_events(job_id, limit=100))
    return [event.data["step"] for event in reversed(events) if event.type == "metrics"]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model of two layers with random weights and its own tokenizer."""
    import tokenizers
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([" ".join(LABELS) + " was bad, case"] * 9, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        bos_token_id=1,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[ServerProcess]:
    """One server for all tests that do not change it."""
    data = tmp_path_factory.mktemp("account") / "data"
    with running(data, "--base-model", str(tiny_model), warm_trainings=True) as process:
        yield process


@pytest.fixture(scope="session")
def client(server: ServerProcess) -> openai.OpenAI:
    return server.client


@pytest.fixture(scope="session")
def base(tiny_model: Path) -> str:
    """The tiny model's name."""
    return str(tiny_model)


@pytest.fixture(scope="session")
def tuned(client: openai.OpenAI, base: str) -> FineTuningJob:
    """A finished job: four epochs of three steps, with validation."""
    job = client.fine_tuning.jobs.create(
        model=base,
        training_file=upload(client, [example(index) for index in range(24)]).id,
        validation_file=upload(client, [example(index) for index in range(24, 30)]).id,
        suffix="first try",
        metadata={"purpose": "tuned"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4, "batch_size": 8}}},
    )
    return finished(client, job.id)
