"""Follow a fine-tuning job at any provider: its metrics, the time left, and the loss curve that it leaves."""

import base64
import binascii
import contextlib
import io
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import openai
import pandas as pd
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

from reviewtune.core.terminal.progress import SILENT, Progress, Step
from reviewtune.core.terminal.time_left import Mark, Pace
from reviewtune.finetuning.checkpoints import Checkpoint, kept_checkpoints
from reviewtune.finetuning.loss_advice import Finding, advise
from reviewtune.providers.responses.polling import Polling
from reviewtune.providers.responses.provider_errors import part_of_protocol
from reviewtune.providers.responses.server_words import words_of

ENDED_BADLY = ("failed", "cancelled")
ENDED = ("succeeded", *ENDED_BADLY)
LONGEST_PAUSE = 3.0  # seconds between two requests for the job's status
PAUSE_SHARE = 1 / 20  # of the time that the job has taken so far
EVENTS_SECONDS = 1.0  # least time between two requests for events, unless the status changed
EVENTS_PER_PAGE = 100
NOTE_CHARACTERS = 100  # of a provider's message that are shown
MOST_STEPS = 10**9  # a larger number is not a step
CURVE_COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")
METRIC_NAMES = {
    "train_loss": "training loss",
    "full_valid_loss": "validation loss",
    "valid_loss": "validation loss",
    "train_mean_token_accuracy": "accuracy",
}

StepMetrics = dict[str, float]  # the numbers of one metrics event, under the provider's names


def has_ended(job: FineTuningJob) -> bool:
    """A job with an unknown status counts as running unless it says when it ended, or names its model."""
    named = not job.status and bool(job.fine_tuned_model)
    return job.status in ENDED or bool(job.finished_at) or named


def model_of(job: FineTuningJob) -> str | None:
    """The model that the job ended with, if any; servers have other words than `succeeded`, such as `completed`."""
    return job.fine_tuned_model if has_ended(job) and job.status not in ENDED_BADLY else None


class JobMonitor:
    """What is known of a job so far; `update` asks the provider for news."""

    def __init__(self, job: FineTuningJob) -> None:
        self.job = job
        self.metrics: dict[int, StepMetrics] = {}  # by step
        self.message = ""  # the newest one; before the first step it says what the provider prepares
        self._reported_at: dict[int, int] = {}  # by step, in Unix seconds
        self._newest_event: str | None = None  # its id
        self._events_asked_at = -math.inf  # monotonic seconds

    @property
    def ended(self) -> bool:
        return has_ended(self.job)

    @property
    def step(self) -> int:
        return max(self.metrics, default=0)

    @property
    def total_steps(self) -> int | None:
        return int(self.metrics[self.step].get("total_steps", 0)) or None if self.metrics else None

    @property
    def n_epochs(self) -> int:
        """Epochs begun so far, out of the number that the provider chose; 1 if the provider does not say."""
        chosen = self.job.hyperparameters.n_epochs if self.job.hyperparameters else None
        planned = chosen if isinstance(chosen, int) else 1
        return max(1, planned * self.step // self.total_steps) if self.total_steps else planned

    @property
    def latest(self) -> StepMetrics:
        """The newest value of each metric, since the validation loss is not measured at every step."""
        values: StepMetrics = {}
        for step in sorted(self.metrics):
            values |= self.metrics[step]
        return values

    @property
    def curve(self) -> pd.DataFrame:
        """One row per step so far, in order: step, train_loss and whatever else was reported."""
        first = {"step": 0, "train_loss": math.nan}
        rows = [first | self.metrics[step] | {"step": step} for step in sorted(self.metrics)]
        return pd.DataFrame(rows, columns=None if rows else ["step", "train_loss"])

    @property
    def seconds_left(self) -> float | None:
        """From the pace of the steps, or the provider's estimate if it reports no steps; None while not trusted."""
        if self.total_steps:
            return Pace(Mark(at, step) for step, at in self._reported_at.items()).seconds_left(
                self.total_steps, time.time()
            )
        left = (self.job.estimated_finish or 0) - time.time()
        return left if left > 0 else None  # a time in the past was wrong

    def seconds_left_of(self, jobs: float) -> float | None:
        """Seconds until the end of this job and of later ones, in total `jobs` times its work; None if unknown."""
        left = self.seconds_left
        if not self.job.created_at:  # the server does not say
            return left if jobs == 1 else None
        return None if left is None else left + (jobs - 1) * (time.time() - self.job.created_at + left)

    def update(self, client: openai.OpenAI) -> list[FineTuningJobEvent]:
        """Fetch the job, and at most once per second its new events, which are returned oldest first."""
        status = self.job.status
        self.job = client.fine_tuning.jobs.retrieve(self.job.id)  # first: then no event of an ended job is missed
        asked_recently = time.monotonic() - self._events_asked_at < EVENTS_SECONDS
        if self.job.status == status and not self.ended and asked_recently:
            return []
        self._events_asked_at = time.monotonic()
        news = list(self._new_events(client))[::-1]
        for event in news:
            self._newest_event = event.id
            if event.type == "message":
                self.message = _short(event.message)
            metrics = metrics_of(event)
            if "step" in metrics:
                step = int(metrics["step"])
                self.metrics[step] = metrics
                self._reported_at[step] = event.created_at
        return news

    def advice(self, checkpoints: Sequence[Checkpoint] = ()) -> list[Finding]:
        """Findings on the curve so far."""
        chosen = self.job.hyperparameters.learning_rate_multiplier if self.job.hyperparameters else None
        multiplier = float(chosen) if isinstance(chosen, int | float) else 1.0
        return advise(self.curve, n_epochs=self.n_epochs, multiplier=multiplier, checkpoints=checkpoints)

    def _new_events(self, client: openai.OpenAI) -> Iterator[FineTuningJobEvent]:
        with part_of_protocol("/events"):
            for event in client.fine_tuning.jobs.list_events(self.job.id, limit=EVENTS_PER_PAGE):  # newest first
                if event.id == self._newest_event:
                    return
                yield event


def follow(
    client: openai.OpenAI,
    job: FineTuningJob,
    *,
    title: str = "fine-tuning",
    jobs: float = 1,
    progress: Progress = SILENT,
) -> JobMonitor:
    """Wait until the job has ended. An interrupt leaves the job running: the same command finds it again.

    Args:
        client: a client of the job's provider.
        job: the job.
        title: shown next to the progress bar.
        jobs: the time left is that of `jobs` times this job's work, for a caller that plans more of them.
        progress: receives the steps, a line for each epoch, and the provider's warnings.
    """
    progress.message(f"fine-tuning job {job.id} on {job.model}: {job.status}")
    monitor, shown, warned = JobMonitor(job), 0, False
    lasting = not monitor.ended  # the warnings of an ended job come too late
    with progress.bar(title, total=None) as advance:
        for news in updates(client, monitor):
            _report_epochs(news, progress)
            _report_warnings(news if lasting else (), progress)
            _advance(advance, monitor, shown, jobs)
            shown = monitor.step
            warning = _overfitting(monitor) if news and not warned else None
            if warning:
                warned = True
                progress.message(f"so far {warning.seen}")
    return monitor


def updates(client: openai.OpenAI, monitor: JobMonitor) -> Iterator[list[FineTuningJobEvent]]:
    """Yield the news of a job again and again until it has ended."""
    polling = Polling(f"fine-tuning job {monitor.job.id}", longest=LONGEST_PAUSE, share=PAUSE_SHARE)
    while True:
        yield monitor.update(client)
        if monitor.ended:
            return
        polling.wait(monitor.job.status)


def _short(message: object) -> str:
    """A provider's message in one line of limited length."""
    text = " ".join(str(message or "").split())
    return text if len(text) <= NOTE_CHARACTERS else f"{text[: NOTE_CHARACTERS - 3]}..."


def metrics_of(event: FineTuningJobEvent) -> StepMetrics:
    """The numbers of a metrics event; empty for any other event."""
    data = event.data if event.type == "metrics" and isinstance(event.data, dict) else {}
    numbers = {str(name): number for name, value in data.items() if (number := _finite(value)) is not None}
    if not 0 <= numbers.get("step", 0) <= MOST_STEPS:
        del numbers["step"]
    return numbers


def _finite(value: object) -> float | None:
    """The number, also one written as text; None for anything else and for infinite ones."""
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def curve(client: openai.OpenAI, job: FineTuningJob) -> pd.DataFrame:
    """The job's result file as a table; empty if there is none, or none that can be read.

    OpenAI encodes the file in base64, other providers serve plain CSV.
    """
    empty = pd.DataFrame(columns=list(CURVE_COLUMNS))
    if not job.result_files:
        return empty
    with part_of_protocol("/content"):
        content = client.files.content(job.result_files[0]).content
        with contextlib.suppress(binascii.Error):  # plain CSV
            content = base64.b64decode(content, validate=True)
        return _steps_of(content, empty)
    return empty


def _steps_of(content: bytes, empty: pd.DataFrame) -> pd.DataFrame:
    """The rows of a result file that have a step, with numbers only, and without the losses that it lacks."""
    try:
        table = pd.read_csv(io.BytesIO(content))
    except (ValueError, pd.errors.ParserError):  # it is not a CSV, or not UTF-8
        return empty
    if "step" not in table:
        return empty
    numbers = pd.DataFrame({name: pd.to_numeric(values, errors="coerce") for name, values in table.items()})
    known = numbers["step"].between(0, MOST_STEPS)
    steps = numbers.loc[known].astype({"step": int}).reset_index(drop=True)
    return steps.reindex(columns=list(dict.fromkeys([*empty.columns, *steps.columns])))


def epoch_ends(monitor: JobMonitor, checkpoints: Iterable[Checkpoint]) -> pd.DataFrame:
    """The validation loss at each epoch's end: columns step and full_valid_loss.

    From the checkpoints and from the events, because a provider keeps few checkpoints.
    """
    losses = {checkpoint.step: checkpoint.valid_loss for checkpoint in checkpoints}
    for step, metrics in monitor.metrics.items():
        if "full_valid_loss" in metrics:
            losses[step] = metrics["full_valid_loss"]
    return pd.DataFrame(sorted(losses.items()), columns=["step", "full_valid_loss"])


def loss_table(client: openai.OpenAI, monitor: JobMonitor) -> pd.DataFrame:
    """The losses of every step and those of every epoch's end."""
    ends = epoch_ends(monitor, kept_checkpoints(client, monitor.job))
    return step_losses(client, monitor).merge(ends, on="step", how="left")


def step_losses(client: openai.OpenAI, monitor: JobMonitor) -> pd.DataFrame:
    """The losses of every step, from the result file or else the events, without those of an epoch's end."""
    table = curve(client, monitor.job)
    if table.empty:
        table = monitor.curve
    return table.drop(columns=["full_valid_loss", "total_steps"], errors="ignore")


def report_advice(findings: Iterable[Finding], progress: Progress) -> None:
    """Report what the curve shows and what to do about it, one line per finding."""
    for finding in findings:
        progress.message(f"advice: {finding}")


def in_words(metrics: Mapping[str, float], *, brief: bool = False) -> str:
    """`training loss 0.312, validation loss 0.401, accuracy 0.912`, as far as they are known."""
    texts: dict[str, str] = {}
    for key, name in METRIC_NAMES.items():
        if key in metrics:
            texts.setdefault(name, f"{name} {metrics[key]:.3f}")
    text = ", ".join(texts.values())
    return text.replace("training loss", "loss").replace("validation loss", "validation") if brief else text


def _overfitting(monitor: JobMonitor) -> Finding | None:
    return next((finding for finding in monitor.advice() if finding.kind == "overfitting"), None)


def _report_epochs(news: Iterable[FineTuningJobEvent], progress: Progress) -> None:
    """Report the losses at each epoch's end."""
    for metrics in map(metrics_of, news):
        if "full_valid_loss" in metrics and "step" in metrics:
            progress.message(f"step {metrics['step']:.0f}: {in_words(metrics)}")


def _report_warnings(news: Iterable[FineTuningJobEvent], progress: Progress) -> None:
    for event in news:
        if event.level == "warn" and (words := words_of(event.message)):
            progress.message(words)


def _advance(advance: Step, monitor: JobMonitor, shown: int, jobs: float) -> None:
    """Move the bar from the step that it shows to the newest one."""
    status: str = monitor.job.status  # an unknown status is shown, not refused
    words = in_words(monitor.latest, brief=True) if monitor.metrics else monitor.message
    notes = [words] if status == "running" else [status, in_words(monitor.latest, brief=True)]
    note = " ".join(filter(None, notes))
    left = monitor.seconds_left_of(jobs)
    advance(monitor.step - shown, total=monitor.total_steps, note=note, left=math.inf if left is None else left)
