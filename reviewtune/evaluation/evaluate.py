"""One arm on the test split: ask, read the answers, score, write `reports/arms/ARM/`, log the MLflow run.

Results (metrics.json, predictions.csv, per_label.csv) are equal for equal inputs; what differs from run to run
(run id, timings) stands in run.json beside them, and confidences, whose last digits differ, in confidence.run.json.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import pandas as pd

from reviewtune.core import config as conf
from reviewtune.core.atomic_files import write_json
from reviewtune.core.config import Config, Data, LabelScoring, LinearArm, MajorityArm, Prices, PromptArm, Provider
from reviewtune.data.nearest_examples import nearest_examples
from reviewtune.data.prompts import Message, Prompt, draw_examples
from reviewtune.evaluation import linear_baseline, plots
from reviewtune.evaluation.label_logprobs import TOP_LOGPROBS, LabelScores, correct_prior, label_scores
from reviewtune.evaluation.metrics.bootstrap import score_intervals
from reviewtune.evaluation.metrics.calibration import calibration_error
from reviewtune.evaluation.metrics.classification import INVALID, Scores, as_json, per_label_table, score
from reviewtune.evaluation.metrics.significance import percentile, proportion
from reviewtune.providers.pricing import YARDSTICK, Mode, Usage, per_thousand, training_cost
from reviewtune.tracking.runs import Run

if TYPE_CHECKING:
    from reviewtune.providers.inference import Answer, Answers, Request

Kind = Literal["linear", "majority", "prompt", "checkpoint", "finetuned"]

CONFUSION = "confusion_matrix.png"
CONFIDENCE_DIGITS = 4
CALIBRATION_RESAMPLES = 500
SLICES = ("language", "length")  # beside the columns of conf/data
LENGTHS = (100, 200)  # characters
LENGTH_NAMES = ["up to 100", "101 to 200", "over 200"]
RESAMPLES, BOOTSTRAP_SEED = 2000, 0  # enough for the third decimal of an interval; one seed, so arms share it


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
    label_scores: LabelScoring = "none"
    repeats: int = 0  # that each review is asked again
    pool: pd.DataFrame | None = None  # from which each review gets its own examples
    nearest: int = 0  # how many

    @classmethod
    def of_arm(cls, name: str, arm: PromptArm, labels: dict[str, str], pool: pd.DataFrame) -> Self:
        """A prompt arm; its examples are drawn from the pool of training reviews, here or for each review."""
        nearest = arm.shots if arm.examples == "nearest" else 0
        examples = () if nearest else draw_examples(pool, list(labels), arm.shots, arm.seed)
        prompt = Prompt(arm.prompt, labels, arm.reasoning, examples)
        how = (arm.temperature, arm.max_tokens, arm.seed, 0, arm.label_scores, arm.repeats)
        return cls(
            name, "prompt", arm.provider.base_model, prompt, arm.provider, *how, pool if nearest else None, nearest
        )

    @classmethod
    def of_finetuned(cls, model: str, config: Config, trained_tokens: int = 0) -> Self:
        prompt, how = Prompt(config.prompt, config.data.labels), config.evaluation
        asked = (config.provider, how.temperature, how.max_tokens, how.seed)
        scoring = "none" if config.provider.label_scores == "none" else how.label_scores  # none: it gives no logprobs
        return cls("finetuned", "finetuned", model, prompt, *asked, trained_tokens, scoring, how.repeats)

    def chats(self, texts: Sequence[str]) -> list[list[Message]]:
        """What is sent for each review."""
        assert self.prompt is not None
        if self.pool is None:
            return [self.prompt.messages(text) for text in texts]
        found = nearest_examples(self.pool, texts, self.nearest)
        prompts = [replace(self.prompt, examples=examples) for examples in found]
        return [prompt.messages(text) for prompt, text in zip(prompts, texts, strict=True)]

    @property
    def request(self) -> "Request":
        """How each review is asked for."""
        from reviewtune.providers.inference import Request

        assert self.prompt is not None
        assert self.provider is not None
        schema = self.prompt.response_format if self.provider.structured_output else None
        scored = self.label_scores != "none"
        top = TOP_LOGPROBS if scored else None
        return Request(self.model, schema, self.temperature, self.max_tokens, self.seed, scored, top)

    @property
    def title(self) -> str:
        return f"{self.arm}: {self.model}"

    @property
    def priced(self) -> Literal["base", "finetuned"]:
        return "finetuned" if self.kind in ("finetuned", "checkpoint") else "base"


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
    rows = pd.DataFrame([_read(answer, prompt) for answer in asked.answers])
    if subject.label_scores != "none":
        rows = decide(rows, _scores(asked.answers, prompt), corrected=subject.label_scores == "corrected")
    predictions = _predictions(test, rows, data)
    result = _evaluation(subject, predictions, data, test_sha256)
    result.metrics.update(_money(asked.answers, subject, prices))
    return replace(result, timings={**_timings(asked), **_calibration(predictions)})


def ask_all(subject: Subject, texts: list[str], prices: Prices, settings: conf.Evaluation, *, title: str) -> "Answers":
    """The subject's answer to each text, unread; `title` stands beside the progress."""
    from reviewtune.providers.inference import Terms, ask  # the openai client: 0.8 s that the linear arm does without

    assert subject.provider is not None
    terms = Terms.of(subject.provider, settings, prices, subject.priced)
    return ask(terms, subject.request, subject.chats(texts), title=title)


def evaluate_linear(
    arm: str, how: LinearArm | MajorityArm, train: pd.DataFrame, test: pd.DataFrame, data: Data, *, test_sha256: str
) -> Evaluation:
    """Fit a baseline on the training split and label the test split."""
    columns = (train["text"].tolist(), train["label"].tolist(), test["text"].tolist())
    answers = linear_baseline.fit_predict(*columns, kind=how.kind, seed=how.seed)
    rows = pd.DataFrame({"predicted": answers.labels, "answer": answers.labels, "error": ""})
    rows["confidence"] = pd.Series(answers.confidence).round(CONFIDENCE_DIGITS)
    result = _evaluation(
        Subject(arm, how.kind, linear_baseline.MODELS[how.kind]), _predictions(test, rows, data), data, test_sha256
    )
    result.metrics.update(_money([], result.subject, None))
    speed = len(test) / answers.seconds
    timings = {"wall_seconds": round(answers.seconds, 3), "reviews_per_second": round(speed, 1)}
    return replace(result, timings={**timings, **_calibration(result.predictions)})


def write(evaluation: Evaluation, folder: Path) -> None:
    """The tables and confusion_matrix.png; run.json comes with the run's id."""
    write_tables(evaluation, folder)
    (folder / CONFUSION).write_bytes(plots.confusion_matrix(evaluation.scores, evaluation.subject.title))


def write_tables(evaluation: Evaluation, folder: Path) -> None:
    """metrics.json, predictions.csv and per_label.csv."""
    write_json(evaluation.metrics, folder / "metrics.json")
    labels = evaluation.predictions.drop(columns="confidence", errors="ignore")
    labels.to_csv(folder / "predictions.csv", index=False, lineterminator="\n")
    per_label_table(evaluation.scores).to_csv(folder / "per_label.csv", index=False, lineterminator="\n")


def write_run(evaluation: Evaluation, folder: Path, run_id: str) -> None:
    table = evaluation.predictions
    sure = table["confidence"].tolist() if "confidence" in table else []
    write_json({"mlflow_run_id": run_id, **evaluation.timings}, folder / "run.json")
    write_json({"confidence": sure}, folder / "confidence.run.json")


def log(run: Run, evaluation: Evaluation, folder: Path) -> None:
    """Metrics, tags, the predictions as a table and every file of the arm's folder."""
    with run.together():
        _note(run, evaluation)
    for path in sorted(folder.iterdir()):
        if not path.name.endswith("run.json"):
            run.artifact(path)


def _note(run: Run, evaluation: Evaluation) -> None:
    metrics, subject = evaluation.metrics, evaluation.subject
    run.tags({"arm": subject.arm, "arm_kind": subject.kind, "model": subject.model, **_prompt_tags(subject)})
    numbers = {"accuracy": metrics["accuracy"]["value"]}  # first: MLflow's compare page plots what was logged first
    numbers |= {name: metrics[name] for name in ("precision", "recall", "f1", "invalid", "n")}
    numbers |= {"macro_f1": metrics["macro"]["f1"]}
    numbers |= {f"accuracy_{end}": metrics["accuracy"][end] for end in ("low", "high")}
    numbers |= {name: value for name, value in metrics.items() if name.endswith(("_tokens", "_accuracy"))}
    numbers |= {name: value for name, value in metrics.items() if name.startswith("cost_")}
    everything = {**numbers, **evaluation.timings}
    run.metrics({name: value for name, value in everything.items() if isinstance(value, int | float)})
    run.metrics({f"f1.{label}": one.f1 for label, one in evaluation.scores.per_label.items()})
    run.table(evaluation.predictions, "predictions.json")


def decide(rows: pd.DataFrame, scores: LabelScores, *, corrected: bool) -> pd.DataFrame:
    """Let the labels' scores decide, and say what each way of reading them gives.

    Adds `as_answered` and `prior_corrected`, the labels of both ways, and `confidence`, the probability of the label
    that counts. An answer that was unusable stays so.
    """
    other = correct_prior(scores)
    usable = rows["predicted"] != INVALID
    best = pd.Series(other.best(), index=rows.index).where(usable, INVALID).fillna(rows["predicted"])
    counted = other if corrected else scores
    confidence = pd.Series(counted.confidence(), index=rows.index).where(usable, 0.0).round(CONFIDENCE_DIGITS)
    decided = best if corrected else rows["predicted"]
    return rows.assign(predicted=decided, as_answered=rows["predicted"], prior_corrected=best, confidence=confidence)


def unusable(evaluation: Evaluation) -> pd.DataFrame:
    """The rows whose answer named no label of the list."""
    return evaluation.predictions[evaluation.predictions["predicted"] == INVALID]


def samples(rows: pd.DataFrame, *, shown: int, characters: int | None = None) -> list[str]:
    """A line for each of the first unusable rows: what was answered, or why nothing was."""
    return [
        f"  {row.review_id}: {repr(str(row.answer)[:characters]) if row.answer else str(row.error)}"
        for row in rows.head(shown).itertuples()
    ]


def why_unusable(answer: "Answer") -> str:
    if answer.refused:
        return f"the provider did not take the review: {answer.refused}"
    return f"no label of the list (finish reason: {answer.finish_reason})"


def _read(answer: "Answer", prompt: Prompt) -> dict[str, Any]:
    label = prompt.parse(answer.text)
    error = "" if label else why_unusable(answer)
    tokens = {"prompt_tokens": answer.usage.prompt, "completion_tokens": answer.usage.completion}
    return {"predicted": label or INVALID, "answer": answer.text, "error": error, **tokens}


def _scores(answers: "Sequence[Answer]", prompt: Prompt) -> LabelScores:
    readings = [prompt.readings(answer.text) for answer in answers]
    return label_scores(list(prompt.labels), [answer.logprobs for answer in answers], readings)


def _predictions(test: pd.DataFrame, answers: pd.DataFrame, data: Data) -> pd.DataFrame:
    table = pd.concat([test[["review_id", "label"]], answers], axis=1)
    table.insert(3, "correct", (table["label"] == table["predicted"]).astype(int))
    if "label_second" in test:
        table["label_second"] = test["label_second"]
    parts = test[list(data.slices)].copy()
    if "language" not in parts and "language" in test and test["language"].nunique() > 1:
        parts["language"] = test["language"]
    if "length" not in parts:
        parts["length"] = pd.cut(test["text"].str.len(), [0, *LENGTHS, float("inf")], labels=LENGTH_NAMES).astype(str)
    return pd.concat([table, parts], axis=1)


def _evaluation(subject: Subject, predictions: pd.DataFrame, data: Data, test_sha256: str) -> Evaluation:
    scores = score(predictions["label"].tolist(), predictions["predicted"].tolist(), labels=list(data.labels))
    metrics: dict[str, Any] = {"arm": subject.arm, "kind": subject.kind, "model": subject.model, **as_json(scores)}
    slices: dict[str, Any] = {
        f"{column}={value}": {"n": len(part), "accuracy": proportion(int(part["correct"].sum()), len(part)).as_json()}
        for column in (*data.slices, *(name for name in SLICES if name in predictions and name not in data.slices))
        for value, part in predictions.groupby(column)
    }
    if "hard=1" in slices:
        metrics["hard_accuracy"] = slices["hard=1"]["accuracy"]["value"]
    metrics["slices"] = slices
    intervals = score_intervals(scores, seed=BOOTSTRAP_SEED, resamples=RESAMPLES)
    metrics["intervals"] = {name: interval.as_json() for name, interval in intervals.items()}
    if "prior_corrected" in predictions:
        metrics["decided_by"] = subject.label_scores
        for way in ("as_answered", "prior_corrected"):
            right = int((predictions[way] == predictions["label"]).sum())
            metrics[f"accuracy_{way}"] = proportion(right, len(predictions)).as_json()
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
    from reviewtune.providers.completion import busy_seconds

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


def _calibration(predictions: pd.DataFrame) -> dict[str, float]:
    if "confidence" not in predictions or len(predictions) < 2:
        return {}
    sure, right = predictions["confidence"].tolist(), (predictions["correct"] == 1).tolist()
    error = calibration_error(sure, right, seed=BOOTSTRAP_SEED, resamples=CALIBRATION_RESAMPLES)
    return {"calibration_error": round(error.value, CONFIDENCE_DIGITS)}


def _prompt_tags(subject: Subject) -> dict[str, str]:
    if subject.prompt is None or subject.provider is None:
        return {}
    return {
        "prompt_fingerprint": subject.prompt.fingerprint,
        "prompt": subject.prompt.settings.name,
        "provider": subject.provider.kind,
        "base_model": subject.provider.base_model,
    }
