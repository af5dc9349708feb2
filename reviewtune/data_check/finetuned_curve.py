"""The fine-tune's own learning curve: four jobs on 25, 50, 75 and 100 % of the training reviews, one test split.

This costs what four fine-tunes cost, so `estimate` comes first. Each job is found again by its key: a command that was
killed goes on where it was, and nothing is paid twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import openai
import pandas as pd

from reviewtune.core.config import Config
from reviewtune.core.progress import SILENT, Progress
from reviewtune.data import chat_files
from reviewtune.data.prompts import Prompt
from reviewtune.data.splits import duplicate_groups, split
from reviewtune.data_check.learning_curve import SHARES, Curve, judge
from reviewtune.errors import DataError
from reviewtune.finetuning.cost import allow_training, epochs_of
from reviewtune.finetuning.jobs import Order, finetune
from reviewtune.providers.client import connect
from reviewtune.providers.inference import Request, Terms, ask
from reviewtune.providers.pricing import COUNT_ERROR, training_cost


@dataclass(frozen=True)
class Plan:
    """Four orders on nested parts of the training split, and the reviews that all four models are asked."""

    sizes: tuple[int, ...]
    orders: tuple[Order, ...]
    tokens: tuple[int, ...]  # that each job trains on, in all its epochs
    test: pd.DataFrame
    prompt: Prompt


def plan(reviews: pd.DataFrame, config: Config, folder: Path) -> Plan:
    """Split the reviews and write the chat files into `folder`. `reviews` has text and label of config.data.

    Raises:
        DataError: too few reviews for a split, or for a quarter of it to be a training file.
    """
    prompt = Prompt.of(config)
    distinct = reviews[~reviews["text"].str.casefold().duplicated()].reset_index(drop=True)
    whole = split(distinct, config.split, train_size="all")
    sizes = tuple(round(share * len(whole.train)) for share in SHARES)
    if sizes[0] < chat_files.MIN_EXAMPLES:
        raise DataError(
            f"a quarter of the training split is {sizes[0]} reviews, a job takes at least {chat_files.MIN_EXAMPLES}; "
            "label more reviews or leave out --finetune"
        )
    orders, tokens = [], []
    for size in sizes:
        part = split(distinct, config.split, train_size=size)
        training, validation = (folder / str(size) / f"{name}_data.jsonl" for name in ("training", "validation"))
        chat_files.write_lines(training, chat_files.lines_of(part.train, prompt))
        chat_files.write_lines(validation, chat_files.lines_of(part.valid, prompt))
        tokens.append(chat_files.check(training, prompt).tokens * epochs_of(config.training, size))
        rules = (config.provider, config.training, config.prices, config.evaluation.budget_usd)
        allow = partial(allow_training, training, *rules)
        orders.append(Order(training, validation, config.provider, config.training, allow))
    return Plan(sizes, tuple(orders), tuple(tokens), whole.test, prompt)


def estimate(planned: Plan, config: Config) -> str:
    """What the jobs will take, in one line, before anything is paid."""
    priced_as, money, tokens = config.provider.priced_as, "no charge by token", sum(planned.tokens)
    if priced_as is not None:
        price = config.prices.models[priced_as]
        low, high = (training_cost(round(tokens * (1 + sign * COUNT_ERROR)), price) for sign in (-1, 1))
        money = f"${low:.2f} to ${high:.2f} by the price book"
    return (
        f"{len(planned.sizes)} fine-tuning jobs on {config.provider.base_model} ({config.provider.kind}): "
        f"{', '.join(map(str, planned.sizes))} reviews, {tokens:,} tokens, {money}; "
        f"then {len(planned.test)} reviews to each of the models"
    )


def measure(planned: Plan, config: Config, *, progress: Progress = SILENT) -> Curve:
    """Train, ask and judge.

    Raises:
        JobError: a job failed.
        ProviderError: the provider refused or could not be reached.
    """
    with connect(config.provider) as client:
        models = [_model(client, planned, at, progress) for at in range(len(planned.sizes))]
    right = np.column_stack([_right(model, planned, config) for model in models])
    groups = duplicate_groups(planned.test["text"].tolist(), config.split.similarity)
    name, labels = f"fine-tuned {Path(config.provider.base_model).name}", planned.test["label"].to_numpy()
    return judge(name, planned.sizes, right, labels, groups, seed=config.evaluation.seed)


def _model(client: openai.OpenAI, planned: Plan, at: int, progress: Progress) -> str:
    title, ahead = f"fine-tune {at + 1} of {len(planned.sizes)}", planned.tokens[at:]
    progress.message(f"{title}, on {planned.sizes[at]} reviews; the time left is for all that are to come")
    return finetune(client, planned.orders[at], title=title, jobs=sum(ahead) / ahead[0]).model


def _right(model: str, planned: Plan, config: Config) -> Sequence[float]:
    how, provider = config.evaluation, config.provider
    schema = planned.prompt.response_format if provider.structured_output else None
    request = Request(model, schema, how.temperature, how.max_tokens, how.seed)
    chats = [planned.prompt.messages(text) for text in planned.test["text"]]
    terms = Terms.of(provider, how, config.prices, "finetuned")
    answers = ask(terms, request, chats, title=model).answers
    labels = zip(answers, planned.test["label"], strict=True)
    return [float(planned.prompt.parse(answer.text) == label) for answer, label in labels]
