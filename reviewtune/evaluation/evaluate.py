"""Evaluate one subject on labelled reviews: ask it, read its answers, score them.

Metrics, predictions and per-label scores are equal for equal inputs. What differs from run to run (the run's id and
the timings) goes to run.json, and the confidences, whose last digits differ, to confidence.run.json.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

import pandas as pd

from reviewtune.core.config.data import DataConfig
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.prompts import Prompt
from reviewtune.data.sides.review_key import KEY, review_keys
from reviewtune.evaluation import linear_baseline
from reviewtune.evaluation.arm_costs import ArmCosts, costs_of
from reviewtune.evaluation.label_scoring.answer_scores import CONFIDENCE_DIGITS
from reviewtune.evaluation.label_scoring.decide import Decision, ScoredAnswers, decide
from reviewtune.evaluation.label_scoring.label_logprobs import label_scores
from reviewtune.evaluation.metrics.bootstrap import score_intervals
from reviewtune.evaluation.metrics.calibration import calibration_error
from reviewtune.evaluation.metrics.classification import INVALID, score
from reviewtune.evaluation.metrics.significance import (
    CALIBRATION_RESAMPLES,
    SCORE_RESAMPLES,
    SEED,
    Interval,
    percentile,
    proportion,
)
from reviewtune.evaluation.metrics_file import ArmMetrics, Decider, SliceMetrics, ValidationMetrics
from reviewtune.evaluation.results import Evaluation
from reviewtune.evaluation.run_file import ArmRun
from reviewtune.evaluation.subject import BaselineSubject, ModelSubject, Subject, why_unusable

if TYPE_CHECKING:
    from reviewtune.providers.completion import Answer
    from reviewtune.providers.inference import Answers


VALIDATION_COLUMNS = ("review_id", "label", "predicted", "as_answered", "prior_corrected", "confidence")
SLICES = ("language", "length")  # in addition to the columns of conf/data
LENGTHS = (100, 200)  # characters
LENGTH_NAMES = ["up to 100", "101 to 200", "over 200"]


def evaluate_model(
    subject: ModelSubject,
    test: pd.DataFrame,
    data: DataConfig,
    *,
    test_sha256: str,
    valid: pd.DataFrame | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Ask the model for every test review and score its answers.

    Args:
        subject: the model and how it is asked.
        test: columns review_id, text, label, and those of `data.slices`.
        data: the label list and the slices.
        test_sha256: of the file that `test` was read from.
        valid: the validation split; asked in the same go if the subject needs it. Its label prior is estimated on it,
            and `label_scores: auto` chooses on it. None: the prior is that of the test reviews, and auto means raw.
            The same table as `test`: the validation split is what is scored, as in a sweep.
        progress: receives messages and a progress bar.

    Raises:
        ProviderError: the model could not be asked.
        BudgetError: the answers could cost more than evaluation.budget_usd leaves.
    """
    known = test.iloc[:0] if valid is None or not subject.asks_validation else valid
    asked = ask_all(subject, [*known["text"], *test["text"]], title=subject.arm, progress=progress)
    n = len(known)
    decision = decided(subject, asked.answers, known, test)
    return _evaluation(
        subject,
        _predictions(test, decision.test, data),
        data,
        validation=_validation(known, decision.valid) if n else None,
        decided_by=decision.by,
        test_sha256=test_sha256,
        costs=costs_of(asked.answers[n:], subject),
        run=_timings(asked),
    )


def evaluate_baseline(
    subject: BaselineSubject,
    train: pd.DataFrame,
    test: pd.DataFrame,
    data: DataConfig,
    *,
    test_sha256: str,
    valid: pd.DataFrame | None = None,
) -> Evaluation:
    """Fit a baseline on the training split and label the test split.

    Args:
        subject: which baseline.
        train: columns text, label.
        test: columns review_id, text, label, and those of `data.slices`.
        data: the label list and the slices.
        test_sha256: of the file that `test` was read from.
        valid: the validation split, which is labelled too; None: it is not.
    """
    known = test.iloc[:0] if valid is None else valid
    texts = [*known["text"], *test["text"]]
    answers = linear_baseline.fit_predict(
        train["text"].tolist(), train["label"].tolist(), texts, kind=subject.kind, seed=subject.seed
    )
    rows = pd.DataFrame({"predicted": answers.labels, "answer": answers.labels, "error": ""})
    rows["confidence"] = pd.Series(answers.confidence).round(CONFIDENCE_DIGITS)
    n, speed = len(known), len(texts) / answers.seconds
    return _evaluation(
        subject,
        _predictions(test, rows[n:].reset_index(drop=True), data),
        data,
        validation=_validation(known, rows[:n]) if n else None,
        decided_by=None,
        test_sha256=test_sha256,
        costs=ArmCosts(),
        run=ArmRun(wall_seconds=round(answers.seconds, 3), reviews_per_second=round(speed, 1)),
    )


def ask_all(subject: ModelSubject, texts: Sequence[str], *, title: str, progress: Progress = SILENT) -> "Answers":
    """The model's answer to each text, as it came; `title` names the work in messages and the progress bar."""
    from reviewtune.providers.inference import ask  # imports the openai client, which baselines do not need

    return ask(subject.policy, subject.request, subject.chats(texts), title=title, progress=progress)


@dataclass(frozen=True, kw_only=True)
class _ReadAnswer:
    """One answer, with the columns of predictions.csv."""

    predicted: str
    answer: str
    error: str
    prompt_tokens: int
    completion_tokens: int


def _read(answer: "Answer", prompt: Prompt) -> _ReadAnswer:
    label = prompt.parse(answer.text)
    return _ReadAnswer(
        predicted=label or INVALID,
        answer=answer.text,
        error="" if label else why_unusable(answer),
        prompt_tokens=answer.usage.prompt,
        completion_tokens=answer.usage.completion,
    )


def decided(subject: ModelSubject, answers: "Sequence[Answer]", valid: pd.DataFrame, test: pd.DataFrame) -> Decision:
    """The labels of a model's answers, read in the way that its configuration asks for.

    Args:
        subject: the model and how it was asked.
        answers: to the validation reviews, then to the others.
        valid: the validation reviews, or none of them: columns text, label.
        test: the other reviews, with the same columns; their labels are not used.
    """
    prompt, scoring = subject.prompt, subject.asking.label_scores
    on_valid, on_test = answers[: len(valid)], answers[len(valid) :]
    if scoring == "none":
        return Decision(by=None, test=_rows(on_test, prompt), valid=_rows(on_valid, prompt))
    known = _scored(on_valid, valid, prompt)
    return decide(known if valid is test else _scored(on_test, test, prompt), known, scoring)


def _scored(answers: "Sequence[Answer]", reviews: pd.DataFrame, prompt: Prompt) -> ScoredAnswers:
    readings = [prompt.readings(answer.text) for answer in answers]
    return ScoredAnswers(
        labels=reviews["label"].tolist(),
        rows=_rows(answers, prompt),
        scores=label_scores(list(prompt.labels), [answer.logprobs for answer in answers], readings),
    )


def _rows(answers: "Sequence[Answer]", prompt: Prompt) -> pd.DataFrame:
    columns = [field.name for field in fields(_ReadAnswer)]
    return pd.DataFrame([_read(answer, prompt) for answer in answers], columns=columns)


def _validation(valid: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """The columns of validation_predictions.csv, and `confidence` if it is known."""
    table = pd.concat([valid[["review_id", "label"]].reset_index(drop=True), answers], axis=1)
    return table[[name for name in VALIDATION_COLUMNS if name in table]]


def _predictions(test: pd.DataFrame, answers: pd.DataFrame, data: DataConfig) -> pd.DataFrame:
    """The columns of predictions.csv: the review, its answer, the values of its slices, and its hash."""
    table = pd.concat([test[["review_id", "label"]], answers], axis=1)
    table.insert(3, "correct", (table["label"] == table["predicted"]).astype(int))
    if "label_second" in test:
        table["label_second"] = test["label_second"]
    parts = test[list(data.slices)].copy()
    if "language" not in parts and "language" in test and test["language"].nunique() > 1:
        parts["language"] = test["language"]
    if "length" not in parts:
        parts["length"] = pd.cut(test["text"].str.len(), [0, *LENGTHS, float("inf")], labels=LENGTH_NAMES).astype(str)
    return pd.concat([table, parts], axis=1).assign(**{KEY: review_keys(test["text"], data.language)})


def _evaluation(
    subject: Subject,
    predictions: pd.DataFrame,
    data: DataConfig,
    *,
    validation: pd.DataFrame | None,
    decided_by: Decider | None,
    test_sha256: str,
    costs: ArmCosts,
    run: ArmRun,
) -> Evaluation:
    scores = score(predictions["label"].tolist(), predictions["predicted"].tolist(), labels=list(data.labels))
    intervals = score_intervals(scores, seed=SEED, resamples=SCORE_RESAMPLES)
    slices = _slices(predictions, data)
    metrics = ArmMetrics.of_scores(
        scores,
        arm=subject.arm,
        kind=subject.kind,
        model=subject.model,
        test_sha256=test_sha256,
        hard_accuracy=slices["hard=1"].accuracy.value if "hard=1" in slices else None,
        slices=slices,
        intervals={name: interval.rounded() for name, interval in intervals.items()},
        prompt_fingerprint=subject.prompt.fingerprint if isinstance(subject, ModelSubject) else None,
        label_scores=subject.asking.label_scores if decided_by and isinstance(subject, ModelSubject) else None,
        decided_by=decided_by,
        accuracy_as_answered=_accuracy_of(predictions, "as_answered"),
        accuracy_prior_corrected=_accuracy_of(predictions, "prior_corrected"),
        validation=None if validation is None else _validation_metrics(validation),
        **vars(costs),
    )
    return Evaluation(subject, predictions, scores, metrics, _with_calibration(run, predictions), validation)


def _validation_metrics(table: pd.DataFrame) -> ValidationMetrics:
    return ValidationMetrics(
        n=len(table),
        accuracy=_accuracy(table["predicted"] == table["label"]),
        accuracy_as_answered=_accuracy_of(table, "as_answered"),
        accuracy_prior_corrected=_accuracy_of(table, "prior_corrected"),
    )


def _accuracy_of(table: pd.DataFrame, column: str) -> Interval | None:
    """Accuracy of the labels in this column, if the table has it."""
    return _accuracy(table[column] == table["label"]) if column in table else None


def _slices(predictions: pd.DataFrame, data: DataConfig) -> dict[str, SliceMetrics]:
    more = [name for name in SLICES if name in predictions and name not in data.slices]
    return {
        f"{column}={value}": SliceMetrics(n=len(part), accuracy=_accuracy(part["correct"] == 1))
        for column in (*data.slices, *more)
        for value, part in predictions.groupby(column)
    }


def _accuracy(hits: "pd.Series[bool]") -> Interval:
    return proportion(int(hits.sum()), len(hits)).rounded()


def _timings(asked: "Answers") -> ArmRun:
    """Times of the requests, without the first one, during which the model may have been loaded.

    Answers from the cache keep the times of the run that asked for them; `times` says so.
    """
    from reviewtune.providers.completion import busy_seconds

    first, *rest = sorted(asked.answers, key=lambda answer: answer.began)
    latencies = [answer.latency for answer in rest if answer.latency is not None]  # batches do not report one
    return ArmRun(
        latency_p50=_percentile(latencies, 50),
        latency_p95=_percentile(latencies, 95),
        latency_p99=_percentile(latencies, 99),
        first_answer_seconds=None if first.latency is None else round(first.latency, 4),
        reviews_per_second=round(len(rest) / asked.seconds, 2) if rest and asked.seconds else None,
        wall_seconds=round(busy_seconds(asked.answers), 3),
        retries=sum(answer.retries for answer in asked.answers),
        requests=asked.requests,
        answers_from_cache=asked.cached,
        times=_times(asked),
    )


def _percentile(latencies: list[float], percent: int) -> float | None:
    return round(percentile(latencies, percent), 4) if latencies else None


def _times(asked: "Answers") -> Literal["measured now", "recorded", "partly recorded"]:
    if not asked.cached:
        return "measured now"
    return "recorded" if asked.cached == len(asked.answers) else "partly recorded"


def _with_calibration(run: ArmRun, predictions: pd.DataFrame) -> ArmRun:
    """The run with the expected calibration error, if there are confidences."""
    if "confidence" not in predictions or len(predictions) < 2:
        return run
    sure, right = predictions["confidence"].tolist(), (predictions["correct"] == 1).tolist()
    error = calibration_error(sure, right, seed=SEED, resamples=CALIBRATION_RESAMPLES)
    return run.model_copy(update={"calibration_error": round(error.value, CONFIDENCE_DIGITS)})
