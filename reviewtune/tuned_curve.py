"""The fine-tune's own learning curve: four jobs on 25, 50, 75 and 100 % of the training reviews, one test split.

This costs what four fine-tunes cost, so `estimate` comes first. Each job is found again by its key: a command that was
killed goes on where it was, and nothing is paid twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from reviewtune import chat
from reviewtune.client import connect
from reviewtune.config import Config
from reviewtune.errors import DataError
from reviewtune.finetuning import Order, finetune
from reviewtune.inference import Request, Terms, ask
from reviewtune.learning_curve import SHARES, Curve, judge
from reviewtune.pricing import training_cost
from reviewtune.prompts import Prompt
from reviewtune.splits import duplicate_groups, split
from reviewtune.training_budget import allow_training, epochs_of


@dataclass(frozen=True)
class Plan:
    """Four orders on nested parts of the training split, and the reviews that all four models are asked."""

    sizes: tuple[int, ...]
    orders: tuple[Order, ...]
    tokens: int  # that all four train on, in all epochs
    test: pd.DataFrame
    prompt: Prompt


def plan(reviews: pd.DataFrame, config: Config, folder: Path) -> Plan:
    """Split the reviews and write the chat files into `folder`. `reviews` has text and label of config.data.

    Raises:
        DataError: too few reviews for a split, or for a quarter of it to be a training file.
    """
    prompt = Prompt(config.prompt, config.data.labels)
    distinct = reviews[~reviews["text"].str.casefold().duplicated()].reset_index(drop=True)
    whole = split(distinct, config.split, train_size="all")
    sizes = tuple(round(share * len(whole.train)) for share in SHARES)
    if sizes[0] < chat.MIN_EXAMPLES:
        raise DataError(
            f"a quarter of the training split is {sizes[0]} reviews, a job takes at least {chat.MIN_EXAMPLES}; "
            "label more reviews or leave out --finetune"
        )
    orders, tokens = [], 0
    for size in sizes:
        part = split(distinct, config.split, train_size=size)
        training, validation = (folder / str(size) / f"{name}_data.jsonl" for name in ("training", "validation"))
        chat.write_lines(training, chat.lines_of(part.train, prompt))
        chat.write_lines(validation, chat.lines_of(part.valid, prompt))
        tokens += chat.check(training, prompt).tokens * epochs_of(config.training, size)
        rules = (config.provider, config.training, config.prices, config.evaluation.budget_usd)
        allow = partial(allow_training, training, *rules)
        orders.append(Order(training, validation, config.provider, config.training, allow))
    return Plan(sizes, tuple(orders), tokens, whole.test, prompt)


def estimate(planned: Plan, config: Config) -> str:
    """What the jobs will take, in one line, before anything is paid."""
    priced_as, money = config.provider.priced_as, "no charge by token"
    if priced_as is not None:
        usd = training_cost(planned.tokens, config.prices.models[priced_as])
        money = f"about ${usd:.2f} by the price book"
    return (
        f"{len(planned.sizes)} fine-tuning jobs on {config.provider.base_model} ({config.provider.kind}): "
        f"{', '.join(map(str, planned.sizes))} reviews, {planned.tokens:,} tokens, {money}; "
        f"then {len(planned.test)} reviews to each of the models"
    )


def measure(planned: Plan, config: Config) -> Curve:
    """Train, ask and judge.

    Raises:
        JobError: a job failed.
        ProviderError: the provider refused or could not be reached.
    """
    with connect(config.provider) as client:
        models = []
        for number, (size, order) in enumerate(zip(planned.sizes, planned.orders, strict=True), start=1):
            print(f"fine-tune {number} of {len(planned.sizes)}, on {size} reviews", flush=True)
            models.append(finetune(client, order).model)
    columns = [_right(model, planned, config) for model in models]
    groups = duplicate_groups(planned.test["text"].tolist(), config.split.similarity)
    name = f"fine-tuned {config.provider.base_model}"
    return judge(name, planned.sizes, np.column_stack(columns), groups, seed=config.evaluation.seed)


def _right(model: str, planned: Plan, config: Config) -> Sequence[float]:
    how, provider = config.evaluation, config.provider
    schema = planned.prompt.response_format if provider.structured_output else None
    request = Request(model, schema, how.temperature, how.max_tokens, how.seed)
    chats = [planned.prompt.messages(text) for text in planned.test["text"]]
    terms = Terms.of(provider, how, config.prices, "finetuned")
    answers = ask(terms, request, chats, title=model).answers
    labels = zip(answers, planned.test["label"], strict=True)
    return [float(planned.prompt.parse(answer.text) == label) for answer, label in labels]
