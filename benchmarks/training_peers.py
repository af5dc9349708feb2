"""Fine-tuning on the same reviews, side by side: the local engine and TRL's SFTTrainer (LoRA r 16).

    pip install -c requirements.lock -r benchmarks/requirements.txt
    python benchmarks/training_peers.py                               # gemma-3-270m, all training reviews
    python benchmarks/training_peers.py --base smollm2-135m-instruct --rows 160

Same model, prompt, reviews, epochs, batch size, device and precision; each in its own process, one after the other.
The same engine asks both fine-tunes, with answers constrained to the labels. Prints the wall time of training alone
(with the model loaded), accuracy on the test reviews with its interval, and the ratio. Run it on an idle machine.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from own_process import alone
from reviews import accuracy, split_reviews, write_chat_files

from reviewtune.core.config.loading import load_params
from reviewtune.core.user_dirs import cache_folder
from reviewtune.data.prompts import Prompt

PROJECT = Path(__file__).parent.parent
LORA_RATE = {
    "gemma-3-270m": 5e-4,
    "smollm2-135m-instruct": 1e-3,
}  # the best of a search on these reviews, so that the peer is not handicapped
MODELS = tuple(LORA_RATE)


def main() -> None:
    options = _options()
    config = load_params(PROJECT / "params.yaml")
    parts = split_reviews(config)
    train, test = parts.train.iloc[: options.rows], parts.test
    prompt = Prompt.of(config)
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        write_chat_files(work, prompt, train=train)
        # Each in a process of its own, so that peak memory and thread settings do not affect the other.
        for name, trainer in (("reviewtune", train_with_engine), ("TRL SFTTrainer", train_with_trl)):
            done = alone(trainer, options.base, work, options.epochs)
            seconds[name] = done["seconds"]
            share = accuracy(Path(done["folder"]), prompt, test)
            print(
                f"{name:15} {done['seconds']:7.1f} s  {done['steps']} steps  peak {done['peak_gb']:.1f} GB  "
                f"test accuracy {share.value:.3f} ({share.low:.3f} to {share.high:.3f})",
                flush=True,
            )
    ratio = seconds["reviewtune"] / seconds["TRL SFTTrainer"]
    print(f"{options.base}, {len(train)} reviews: {ratio:.3f} of TRL's wall time")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=MODELS[0], choices=MODELS)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", type=int, help="training reviews to take; all without it")
    return parser.parse_args()


def train_with_engine(base: str, work: Path, epochs: int) -> dict[str, Any]:
    from reviewtune.local_server.settings import prepare_torch

    prepare_torch()
    from reviewtune.local_server.engine.base_models.ensure import ensure
    from reviewtune.local_server.engine.training import finetune
    from reviewtune.local_server.engine.types import TrainingSpec

    folder = ensure(base, cache_folder())
    spec = TrainingSpec(folder, work / "train.jsonl", None, work / "ours", seed=13, n_epochs=epochs, batch_size=16)
    course = finetune.TrainingRun(spec)
    start = time.perf_counter()
    for _ in course.run():
        pass
    return _done(start, course.total_steps, work / "ours")


def train_with_trl(base: str, work: Path, epochs: int) -> dict[str, Any]:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from reviewtune.local_server.engine.base_models.ensure import ensure

    folder = ensure(base, cache_folder())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    lines = [json.loads(line)["messages"] for line in (work / "train.jsonl").read_text().splitlines()]
    data = Dataset.from_list([{"prompt": line[:-1], "completion": line[-1:]} for line in lines])
    settings = SFTConfig(
        output_dir=str(work / "trl"),
        num_train_epochs=epochs,
        per_device_train_batch_size=16,
        learning_rate=LORA_RATE[base],
        lr_scheduler_type="linear",
        warmup_steps=0.1,
        **speed(),
        gradient_checkpointing=False,
        save_strategy="no",
        report_to="none",
        seed=13,
        disable_tqdm=True,
        logging_steps=1000,
    )
    adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(model, args=settings, train_dataset=data, processing_class=tokenizer, peft_config=adapter)
    start = time.perf_counter()
    trainer.train()
    done = _done(start, trainer.state.global_step, work / "trl")
    trainer.model.merge_and_unload().save_pretrained(work / "trl")
    tokenizer.save_pretrained(work / "trl")
    return done


def speed() -> dict[str, bool]:
    """TRL's settings for the device and the precision that the engine takes on this machine."""
    import torch

    from reviewtune.local_server.engine.model_loading import device, fast_precision

    place = device()
    return {"bf16": fast_precision(place) == torch.bfloat16, "use_cpu": place.type == "cpu"}


def _done(start: float, steps: int, folder: Path) -> dict[str, Any]:
    from reviewtune.local_server.engine.model_loading import device
    from reviewtune.local_server.engine.training.memory import peak_memory

    seconds = time.perf_counter() - start
    peak = peak_memory(device()) / 1e9
    return {"seconds": seconds, "steps": steps, "folder": str(folder), "peak_gb": peak}


if __name__ == "__main__":
    main()
