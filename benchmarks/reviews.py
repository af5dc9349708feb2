"""The project's own reviews, split as the pipeline splits them, and a model folder's answers to them."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from reviewtune.core.config.config import Config
from reviewtune.data.chat.chat_files import lines_of, write_lines
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import prepare
from reviewtune.data.splits import Splits, split
from reviewtune.evaluation.metrics.significance import Interval, proportion
from reviewtune.local_server.engine.generation import generate
from reviewtune.local_server.engine.types import ChatMessage, GenerationRequest

LONGEST_ANSWER = 128  # tokens


def split_reviews(config: Config) -> Splits:
    return split(prepare(config.data.path, config.data).reviews, config.split, train_size=config.data.train_size)


def write_chat_files(folder: Path, prompt: Prompt, **parts: pd.DataFrame) -> None:
    for name, part in parts.items():
        write_lines(folder / f"{name}.jsonl", lines_of(part, prompt))


def request_for(prompt: Prompt, text: str) -> GenerationRequest:
    messages = tuple(ChatMessage(message["role"], message["content"]) for message in prompt.messages(text))
    schema = prompt.response_format["json_schema"]["schema"] if prompt.response_format else None
    return GenerationRequest(messages, temperature=0, max_tokens=LONGEST_ANSWER, schema=schema)


def accuracy(folder: Path, prompt: Prompt, test: pd.DataFrame) -> Interval:
    """Accuracy of a model folder's answers, with its interval."""
    return proportion(sum(correct(folder, prompt, test)), len(test))


def correct(folder: Path, prompt: Prompt, test: pd.DataFrame) -> list[bool]:
    """Whether a model folder's answer to each text is its label."""
    labels = answers(folder, prompt, test["text"].tolist())
    return [label == truth for label, truth in zip(labels, test["label"], strict=True)]


def answers(folder: Path, prompt: Prompt, texts: Sequence[str]) -> list[str | None]:
    """Labels; None for an answer without a known label."""
    results = generate.load(folder).complete([request_for(prompt, text) for text in texts])
    return [prompt.parse(result.choices[0].text) for result in results]
