"""The memory of the local provider with one and with several fine-tunes of one base model loaded.

    python benchmarks/shared_memory.py --base qwen2.5-coder-1.5b-instruct   # about 4 minutes without AMX

Fine-tunes the base model with a few reviews and different seeds through a real server, and starts that server anew. It
then asks one fine-tune about a review, then the others. Prints the server's memory (PSS, or RSS where the system does
not tell it) after each answer, and the last as a multiple of the first.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import psutil
from reviews import split_reviews, write_chat_files

from reviewtune.core.config.loading import load_params
from reviewtune.core.user_dirs import account_folder, cache_folder, running_server
from reviewtune.data.prompts import Prompt
from reviewtune.local_server.engine.base_models.ensure import ensure

PROJECT = Path(__file__).parent.parent
ROWS = 10  # the fewest that are accepted
LIMIT = 1.3  # times the memory of one
PATIENCE = 900  # seconds for a fine-tune


def main() -> None:
    options = _options()
    config = load_params(PROJECT / "params.yaml")
    rows, prompt = split_reviews(config).train[:ROWS], Prompt.of(config)
    base = ensure(options.base, cache_folder())
    with tempfile.TemporaryDirectory() as home:
        os.environ["REVIEWTUNE_HOME"] = home  # its own account
        write_chat_files(Path(home), prompt, train=rows)
        with _server(base) as (client, _):
            models = [_fine_tune(client, base, Path(home) / "train.jsonl", seed) for seed in range(options.models)]
        with _server(base) as (client, process):
            used = []
            for count, model in enumerate(models, 1):
                client.chat.completions.create(
                    model=model, messages=prompt.messages(rows["text"].iloc[0]), temperature=0, max_tokens=8
                )
                used.append(_memory(process))
                print(f"{count} of {len(models)} fine-tunes loaded: {used[-1] / 1e6:,.0f} MB", flush=True)
    size = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    print(f"{used[-1] / used[0]:.2f} times the memory of one (at most {LIMIT}); base weights of {size / 1e6:,.0f} MB")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="qwen2.5-coder-1.5b-instruct", help="a name of the catalogue, or a folder")
    parser.add_argument("--models", type=int, default=3)
    return parser.parse_args()


@contextmanager
def _server(base: Path) -> Iterator[tuple[openai.OpenAI, psutil.Process]]:
    """A server of the account, with an openai client for it."""
    command = [sys.executable, "-m", "reviewtune.local_server", "--port", "0", "--base-model", str(base)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while (running := running_server(account_folder())) is None:
            if process.poll() is not None:
                sys.exit("the server did not start")
            time.sleep(0.1)
        with openai.OpenAI(base_url=running.address, api_key="local", timeout=PATIENCE) as client:
            try:
                yield client, psutil.Process(process.pid)
            finally:
                process.terminate()


def _fine_tune(client: openai.OpenAI, base: Path, file: Path, seed: int) -> str:
    uploaded = client.files.create(file=file, purpose="fine-tune")
    hyper = {"n_epochs": 1, "batch_size": ROWS}
    job = client.fine_tuning.jobs.create(
        model=str(base),
        training_file=uploaded.id,
        seed=seed,
        method={"type": "supervised", "supervised": {"hyperparameters": hyper}},  # type: ignore[arg-type]
    )
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.5)
        job = client.fine_tuning.jobs.retrieve(job.id)
    if job.fine_tuned_model is None:
        sys.exit(f"the fine-tune failed: {json.dumps(job.error.model_dump() if job.error else job.status)}")
    return job.fine_tuned_model


def _memory(process: psutil.Process) -> int:
    memory = process.memory_full_info()
    return int(getattr(memory, "pss", memory.rss))


if __name__ == "__main__":
    main()
