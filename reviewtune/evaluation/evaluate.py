"""One arm on the test split: ask, read the answers, score, write `reports/arms/ARM/`, log the MLflow run.

Results (metrics.json, predictions.csv, per_label.csv) are equal for equal inputs; what differs from run to run
(run id, timings) stands in run.json beside them, and confidences, whose last digits differ, in confidence.run.json.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from reviewtune.core.config import DataConfig, EvaluationConfig, LinearArmConfig, MajorityArmConfig, Prices
from reviewtune.data.prompts import Prompt
from reviewtune.evaluation import linear_baseline
from reviewtune.evaluation.label_logprobs import LabelScores, correct_prior, label_scores
from reviewtune.evaluation.metrics.bootstrap import score_intervals
from reviewtune.evaluation.metrics.calibration import calibration_error
from reviewtune.evaluation.metrics.classification import INVALID, as_json, score
from reviewtune.evaluation.metrics.significance import percentile, proportion
from reviewtune.evaluation.results import Evaluation
from reviewtune.evaluation.subject import Subject
from reviewtune.providers.pricing import YARDSTICK, Mode, Usage, per_thousand, training_cost

if TYPE_CHECKING:
    from reviewtune.providers.inference import Answer, Answers


CONFIDENCE_DIGITS = 4
CALIBRATION_RESAMPLES = 500
SLICES = ("language", "length")  # beside the columns of conf/data
LENGTHS = (100, 200)  # characters
LENGTH_NAMES = ["up to 100", "101 to 200", "over 200"]
RESAMPLES, BOOTSTRAP_SEED = 2000, 0  # enough for the third decimal of an interval; one seed, so arms share it


def evaluate_model(
    subject: Subject,
    test: pd.DataFrame,
    data: DataConfig,
    prices: Prices,
    settings: EvaluationConfig,
    *,
    test_sha256: str,
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


def ask_all(subject: Subject, texts: list[str], prices: Prices, settings: EvaluationConfig, *, title: str) -> "Answers":
    """The subject's answer to each text, unread; `title` stands beside the progress."""
    from reviewtune.providers.inference import Terms, ask  # the openai client: 0.8 s that the linear arm does without

    assert subject.provider is not None
    terms = Terms.of(subject.provider, settings, prices, subject.priced)
    return ask(terms, subject.request, subject.chats(texts), title=title)


def evaluate_linear(
    arm: str,
    how: LinearArmConfig | MajorityArmConfig,
    train: pd.DataFrame,
    test: pd.DataFrame,
    data: DataConfig,
    *,
    test_sha256: str,
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


def _predictions(test: pd.DataFrame, answers: pd.DataFrame, data: DataConfig) -> pd.DataFrame:
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


def _evaluation(subject: Subject, predictions: pd.DataFrame, data: DataConfig, test_sha256: str) -> Evaluation:
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
