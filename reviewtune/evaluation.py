"""One arm on the test split: ask, read the answers, score, write `reports/arms/ARM/`, log the MLflow run.

Results (metrics.json, predictions.csv, per_label.csv) are equal for equal inputs; what differs from run to run
(run id, timings) stands in run.json beside them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import pandas as pd

from reviewtune import config as conf
from reviewtune import figures, linear
from reviewtune.config import Config, Data, Prices, PromptArm, Provider
from reviewtune.files import write_json
from reviewtune.metrics import INVALID, Scores, as_json, per_label_table, score
from reviewtune.pricing import YARDSTICK, Mode, Usage, per_thousand, training_cost
from reviewtune.prompts import Prompt, draw_examples
from reviewtune.statistics import percentile, proportion
from reviewtune.tracking import Run

if TYPE_CHECKING:
    from reviewtune.inference import Answer, Answers

Kind = Literal["linear", "prompt", "finetuned"]


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a model, how it is asked, and who is paid for it."""

    arm: str
    kind: Kind
    model: str
    prompt: Prompt | None = None
    provider: Provider | None = None
    temperature: float = 0
    max_tokens: int = 64
    seed: int = 0
    trained_tokens: int = 0

    @classmethod
    def of_arm(cls, name: str, arm: PromptArm, labels: dict[str, str], pool: pd.DataFrame) -> Self:
        """A prompt arm; its examples are drawn from the pool of training reviews."""
        examples = draw_examples(pool, list(labels), arm.shots, arm.seed)
        prompt = Prompt(arm.prompt, labels, arm.reasoning, examples)
        model = arm.provider.base_model
        return cls(name, "prompt", model, prompt, arm.provider, arm.temperature, arm.max_tokens, arm.seed)

    @classmethod
    def of_finetuned(cls, model: str, config: Config, trained_tokens: int = 0) -> Self:
        prompt, how = Prompt(config.prompt, config.data.labels), config.evaluation
        asked = (config.provider, how.temperature, how.max_tokens, how.seed)
        return cls("finetuned", "finetuned", model, prompt, *asked, trained_tokens)

    @property
    def priced(self) -> Literal["base", "finetuned"]:
        return "finetuned" if self.kind == "finetuned" else "base"


@dataclass(frozen=True)
class Evaluation:
    """What an arm achieved."""

    subject: Subject
    predictions: pd.DataFrame
    scores: Scores
    metrics: dict[str, Any]
    timings: dict[str, float | int | str | None]


def evaluate_model(
    subject: Subject, test: pd.DataFrame, data: Data, prices: Prices, settings: conf.Evaluation, *, test_sha256: str
) -> Evaluation:
    """Ask the model for every test review and score its answers."""
    prompt = subject.prompt
    assert prompt is not None
    asked = ask_all(subject, test["text"].tolist(), prices, settings, title=subject.arm)
    predictions = _predictions(test, [_read(answer, prompt) for answer in asked.answers], data)
    result = _evaluation(subject, predictions, data, test_sha256)
    result.metrics.update(_money(asked.answers, subject, prices))
    return replace(result, timings=_timings(asked))


def ask_all(subject: Subject, texts: list[str], prices: Prices, settings: conf.Evaluation, *, title: str) -> "Answers":
    """The subject's answer to each text, unread; `title` stands beside the progress."""
    from reviewtune.inference import Request, Terms, ask  # the openai client: 0.8 s that the linear arm does without

    prompt, provider = subject.prompt, subject.provider
    assert prompt is not None
    assert provider is not None
    schema = prompt.response_format if provider.structured_output else None
    request = Request(subject.model, schema, subject.temperature, subject.max_tokens, subject.seed)
    chats = [prompt.messages(text) for text in texts]
    return ask(Terms.of(provider, settings, prices, subject.priced), request, chats, title=title)


def evaluate_linear(
    arm: str, train: pd.DataFrame, test: pd.DataFrame, data: Data, *, seed: int, test_sha256: str
) -> Evaluation:
    """Fit the linear baseline on the training split and label the test split."""
    answers = linear.fit_predict(train["text"].tolist(), train["label"].tolist(), test["text"].tolist(), seed=seed)
    rows = [{"predicted": label, "answer": label, "error": ""} for label in answers.labels]
    result = _evaluation(Subject(arm, "linear", linear.MODEL), _predictions(test, rows, data), data, test_sha256)
    result.metrics.update(_money([], result.subject, None))
    speed = len(test) / answers.seconds
    return replace(result, timings={"wall_seconds": round(answers.seconds, 3), "reviews_per_second": round(speed, 1)})


def write(evaluation: Evaluation, folder: Path) -> None:
    """metrics.json, predictions.csv, per_label.csv and confusion_matrix.png; run.json comes with the run's id."""
    write_json(evaluation.metrics, folder / "metrics.json")
    evaluation.predictions.to_csv(folder / "predictions.csv", index=False, lineterminator="\n")
    per_label_table(evaluation.scores).to_csv(folder / "per_label.csv", index=False, lineterminator="\n")
    title = f"{evaluation.subject.arm}: {evaluation.subject.model}"
    (folder / "confusion_matrix.png").write_bytes(figures.confusion_matrix(evaluation.scores, title))


def write_run(evaluation: Evaluation, folder: Path, run_id: str) -> None:
    write_json({"mlflow_run_id": run_id, **evaluation.timings}, folder / "run.json")


def log(run: Run, evaluation: Evaluation, folder: Path) -> None:
    """Metrics, tags, the predictions as a table and every file of the arm's folder."""
    metrics, subject = evaluation.metrics, evaluation.subject
    run.tags({"arm": subject.arm, "arm_kind": subject.kind, "model": subject.model, **_prompt_tags(subject)})
    numbers = {name: metrics[name] for name in ("precision", "recall", "f1", "invalid", "n")}
    numbers |= {"accuracy": metrics["accuracy"]["value"], "macro_f1": metrics["macro"]["f1"]}
    numbers |= {f"accuracy_{end}": metrics["accuracy"][end] for end in ("low", "high")}
    numbers |= {name: value for name, value in metrics.items() if name.endswith(("_tokens", "_accuracy"))}
    numbers |= {name: value for name, value in metrics.items() if name.startswith("cost_")}
    everything = {**numbers, **evaluation.timings}
    run.metrics({name: value for name, value in everything.items() if isinstance(value, int | float)})
    run.metrics({f"f1.{label}": one.f1 for label, one in evaluation.scores.per_label.items()})
    run.table(evaluation.predictions, "predictions.json")
    for path in sorted(folder.iterdir()):
        if path.name != "run.json":
            run.artifact(path)


def unusable(evaluation: Evaluation) -> pd.DataFrame:
    """The rows whose answer named no label of the list."""
    return evaluation.predictions[evaluation.predictions["predicted"] == INVALID]


def _read(answer: "Answer", prompt: Prompt) -> dict[str, Any]:
    label = prompt.parse(answer.text)
    error = "" if label else f"no label of the list (finish reason: {answer.finish_reason})"
    tokens = {"prompt_tokens": answer.usage.prompt, "completion_tokens": answer.usage.completion}
    return {"predicted": label or INVALID, "answer": answer.text, "error": error, **tokens}


def _predictions(test: pd.DataFrame, answers: list[dict[str, Any]], data: Data) -> pd.DataFrame:
    table = pd.concat([test[["review_id", "label"]], pd.DataFrame(answers)], axis=1)
    table.insert(3, "correct", (table["label"] == table["predicted"]).astype(int))
    return pd.concat([table, test[list(data.slices)]], axis=1)


def _evaluation(subject: Subject, predictions: pd.DataFrame, data: Data, test_sha256: str) -> Evaluation:
    scores = score(predictions["label"].tolist(), predictions["predicted"].tolist(), labels=list(data.labels))
    metrics: dict[str, Any] = {"arm": subject.arm, "kind": subject.kind, "model": subject.model, **as_json(scores)}
    slices: dict[str, Any] = {
        f"{column}={value}": {"n": len(part), "accuracy": proportion(int(part["correct"].sum()), len(part)).as_json()}
        for column in data.slices
        for value, part in predictions.groupby(column)
    }
    if "hard=1" in slices:
        metrics["hard_accuracy"] = slices["hard=1"]["accuracy"]["value"]
    metrics["slices"] = slices
    metrics["test_sha256"] = test_sha256
    metrics["prompt_fingerprint"] = subject.prompt.fingerprint if subject.prompt else None
    return Evaluation(subject, predictions, scores, metrics, {})


def _money(answers: "Sequence[Answer]", subject: Subject, prices: Prices | None) -> dict[str, Any]:
    """Measured usage times the price book. For a free provider also what the same tokens would have cost."""
    modes: tuple[Mode, ...] = ("online", "batch")
    usage = {mode: _usage(answers, mode) for mode in modes}
    whole = sum(usage.values(), Usage())
    tokens = {"prompt_tokens": whole.prompt, "completion_tokens": whole.completion}
    if prices is None or subject.provider is None:
        return {**tokens, "cost_per_1k": 0.0, "cost_per_1k_at_gpt_4o_mini": None}
    n, kind, priced_as = len(answers), subject.priced, subject.provider.priced_as
    paid = math.fsum(per_thousand(usage[mode], n, prices, priced_as, kind, mode) for mode in modes)
    # A cached prefix is an accident of one run at one provider: the yardstick counts every token in full, one by one.
    uncached, known = Usage(whole.prompt, 0, whole.completion), YARDSTICK in prices.models
    yardstick = per_thousand(uncached, n, prices, YARDSTICK, kind) if known else None
    money: dict[str, Any] = {**tokens, "cost_per_1k": round(paid, 6), "cost_per_1k_at_gpt_4o_mini": yardstick}
    return money | (_training_money(subject, prices) if subject.kind == "finetuned" else {})


def _training_money(subject: Subject, prices: Prices) -> dict[str, Any]:
    def cost(model: str | None) -> float:
        return round(training_cost(subject.trained_tokens, prices.models[model]), 6) if model else 0.0

    assert subject.provider is not None
    return {
        "trained_tokens": subject.trained_tokens,
        "training_usd": cost(subject.provider.priced_as),
        "training_usd_at_gpt_4o_mini": cost(YARDSTICK) if YARDSTICK in prices.models else None,
    }


def _usage(answers: "Sequence[Answer]", mode: Mode) -> Usage:
    return sum((answer.usage for answer in answers if answer.mode == mode), Usage())


def _timings(asked: "Answers") -> dict[str, float | int | str | None]:
    """Without the answer that was sent first, during which the model may have been loaded.

    Answers that were kept from before bring their times of then; `times` says so.
    """
    from reviewtune.answers import busy_seconds

    first, *rest = sorted(asked.answers, key=lambda answer: answer.began)
    latencies = [answer.latency for answer in rest if answer.latency is not None]  # a line of a batch has none
    seconds, cached = asked.seconds, asked.cached
    return {
        **{f"latency_p{p}": round(percentile(latencies, p), 4) if latencies else None for p in (50, 95, 99)},
        "first_answer_seconds": None if first.latency is None else round(first.latency, 4),
        "reviews_per_second": round(len(rest) / seconds, 2) if rest and seconds else None,
        "wall_seconds": round(busy_seconds(asked.answers), 3),
        "retries": sum(answer.retries for answer in asked.answers),
        "requests": asked.requests,
        "answers_from_cache": cached,
        "times": "measured now" if not cached else "recorded" if cached == len(asked.answers) else "partly recorded",
    }


def _prompt_tags(subject: Subject) -> dict[str, str]:
    if subject.prompt is None or subject.provider is None:
        return {}
    return {
        "prompt_fingerprint": subject.prompt.fingerprint,
        "prompt": subject.prompt.settings.name,
        "provider": subject.provider.kind,
        "base_model": subject.provider.base_model,
    }
