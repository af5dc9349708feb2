"""The learning curve of the fine-tune: four jobs on 25, 50, 75 and 100 % of the training reviews, one test split.

The curve is for information: no model and no setting is chosen by it, so it may be measured on the test split.
The data go through the same steps as in the pipeline, so the largest job is the pipeline's own job if the file is its
data set. Four jobs cost as much as four fine-tunes, so `estimate` comes first. A command that was killed finds its jobs
again, and nothing is paid twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openai
import pandas as pd

from reviewtune.core.config.config import Config
from reviewtune.core.formatting import counted
from reviewtune.core.project import ChatFiles, SplitFiles
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.chat import chat_files
from reviewtune.data.preparation import write_chat, write_splits
from reviewtune.data.prompts import Prompt
from reviewtune.data.reviews import mask_and_merge, read_reviews, write_reviews
from reviewtune.data.splits import duplicate_groups
from reviewtune.data_check.learning_curve import SHARES, Curve, judge
from reviewtune.errors import ConfigError, DataError
from reviewtune.finetuning.cost import epochs_of
from reviewtune.finetuning.jobs import Order, finetune
from reviewtune.finetuning.train import refuse_leaked
from reviewtune.providers.client import connect
from reviewtune.providers.inference import CallPolicy, Request, ask
from reviewtune.providers.pricing import COUNT_ERROR, training_cost


@dataclass(frozen=True)
class Plan:
    """Four orders on nested parts of the training split, and the reviews that all four models are asked about."""

    sizes: tuple[int, ...]  # training reviews of each job
    orders: tuple[Order, ...]
    tokens: tuple[int, ...]  # that each job trains on, in all its epochs
    test: pd.DataFrame
    prompt: Prompt


def plan(reviews: pd.DataFrame, config: Config, folder: Path, *, frozen: Path) -> Plan:
    """Split the reviews and write the chat files; nothing is sent to the provider.

    Args:
        reviews: the checked rows of the file config.data.path, with the columns review_id, text and label.
        config: the settings of the data set and of the pipeline.
        folder: where the splits and the chat files are written.
        frozen: the project's data/frozen_splits.csv.

    Raises:
        ConfigError: a setting has no effect on the curve.
        DataError: texts with conflicting labels under the policy `refuse`; too few reviews for a split, or for a
            training file of a quarter of them.
    """
    refuse_unsupported(config)
    labeled, whole = folder / "labeled.csv", SplitFiles(folder / "whole")
    kept, _ = mask_and_merge(config.data.path, reviews, config.data)
    write_reviews(kept, labeled)
    write_splits(config, labeled, whole, frozen=frozen)  # check-data reports its notes
    sizes = _sizes(len(read_reviews(whole.train)))
    orders, tokens = zip(*(_order(config, labeled, size, folder / str(size), frozen) for size in sizes), strict=True)
    return Plan(sizes, orders, tokens, read_reviews(whole.test), Prompt.of(config))


def refuse_unsupported(config: Config) -> None:
    """Refuse settings that the curve cannot honour.

    Raises:
        ConfigError: a setting asks for something that the curve does not measure.
    """
    settings = config.evaluation
    corrected = settings.label_scores in ("corrected", "auto") and config.provider.label_scores != "none"
    unsupported = {
        f"evaluation.label_scores={settings.label_scores}": corrected,
        f"evaluation.repeats={settings.repeats}": settings.repeats,
        "evaluation.injections=true": settings.injections,
        f"evaluation.checkpoints={list(settings.checkpoints)}": settings.checkpoints,
    }
    if names := [name for name, is_set in unsupported.items() if is_set]:
        raise ConfigError(
            f"--finetune does not support {', '.join(names)}; set the default in conf/evaluation/ and run "
            "`make params`, or leave out --finetune"
        )


def _sizes(training_reviews: int) -> tuple[int, ...]:
    sizes = tuple(round(share * training_reviews) for share in SHARES)
    if sizes[0] < chat_files.MIN_EXAMPLES:
        raise DataError(
            f"a quarter of the training split is {counted(sizes[0], 'review')}, a job takes at least "
            f"{chat_files.MIN_EXAMPLES}; label more reviews or leave out --finetune"
        )
    return sizes


def _order(config: Config, labeled: Path, size: int, folder: Path, frozen: Path) -> tuple[Order, int]:
    """The order on so many training reviews, and the tokens that it trains on in all its epochs."""
    sized = config.model_copy(update={"data": config.data.model_copy(update={"train_size": size})})
    splits, chat = SplitFiles(folder), ChatFiles(folder)
    write_splits(sized, labeled, splits, frozen=frozen)
    checked = write_chat(sized, splits, chat)
    refuse_leaked(sized, splits, chat)
    return Order.of(sized, chat), checked.training.tokens * epochs_of(config.training, size)


def estimate(planned: Plan, config: Config) -> str:
    """What the jobs will take, in one line, before anything is paid."""
    priced_as, money, tokens = config.provider.priced_as, "no charge by token", sum(planned.tokens)
    if priced_as is not None:
        price = config.prices.models[priced_as]
        low, high = (training_cost(round(tokens * (1 + sign * COUNT_ERROR)), price) for sign in (-1, 1))
        money = f"${low:.2f} to ${high:.2f} by the price book"
    return (
        f"{counted(len(planned.sizes), 'fine-tuning job')} on {config.provider.base_model} ({config.provider.kind}): "
        f"{', '.join(map(str, planned.sizes))} reviews, {tokens:,} tokens, {money}; "
        f"then {counted(len(planned.test), 'review')} to each of the models"
    )


def measure(planned: Plan, config: Config, *, progress: Progress = SILENT) -> Curve:
    """Train the models, ask each of them about the test split, and judge the curve.

    Raises:
        JobError: a job failed.
        ProviderError: the provider refused a request or could not be reached.
    """
    with connect(config.provider, progress=progress) as client:
        models = [_model(client, planned, at, progress) for at in range(len(planned.sizes))]
    right = np.column_stack([_right(model, planned, config, progress) for model in models])
    groups = duplicate_groups(planned.test["text"].tolist(), config.split.similarity)
    name, labels = f"fine-tuned {Path(config.provider.base_model).name}", planned.test["label"].to_numpy()
    return judge(name, planned.sizes, right, labels, groups, seed=config.evaluation.seed)


def _model(client: openai.OpenAI, planned: Plan, at: int, progress: Progress) -> str:
    title, ahead = f"fine-tune {at + 1} of {len(planned.sizes)}", planned.tokens[at:]
    progress.message(f"{title}, on {counted(planned.sizes[at], 'review')}; the time left is that of all remaining jobs")
    order, jobs = planned.orders[at], sum(ahead) / ahead[0]
    return finetune(client, order, title=title, jobs=jobs, progress=progress).model


def _right(model: str, planned: Plan, config: Config, progress: Progress) -> Sequence[float]:
    """1 or 0 per test review: whether the model answers its label."""
    settings, provider = config.evaluation, config.provider
    request = Request(
        model,
        planned.prompt.response_format if provider.structured_output else None,
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        seed=settings.seed,
    )
    chats = [planned.prompt.messages(text) for text in planned.test["text"]]
    policy = CallPolicy.of(provider, settings, config.prices, "finetuned")
    answers = ask(policy, request, chats, title=model, progress=progress).answers
    labels = zip(answers, planned.test["label"], strict=True)
    return [float(planned.prompt.parse(answer.text) == label) for answer, label in labels]
