"""A job on its way, at any provider: its metrics events as a curve, the time that is left, what it leaves behind."""

import base64
import binascii
import contextlib
import io
import math
import time
from collections.abc import Iterator
from typing import Any

import openai
import pandas as pd
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

from reviewtune.core.progress import Step, progress_bar
from reviewtune.finetuning.loss_advice import Finding, advise

ENDED_BADLY = ("failed", "cancelled")
ENDED = ("succeeded", *ENDED_BADLY)
POLL_SECONDS = (0.1, 3.0)  # from, to: a twentieth of the time that it has taken so far
EVENTS_SECONDS = 1.0  # between two looks at the events, unless the status is another one
CURVE_COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")
EVENTS_A_PAGE = 100


class Following:
    """What is known of a job so far; `look` asks for news."""

    def __init__(self, job: FineTuningJob) -> None:
        self.job = job
        self.metrics: dict[int, dict[str, Any]] = {}  # by step, as the provider names them
        self._times: dict[int, int] = {}  # when each step was reported, Unix seconds
        self._newest: str | None = None  # id of the last event that was taken in
        self._asked = -math.inf  # for events, monotonic seconds

    @property
    def ended(self) -> bool:
        """A status that nobody has heard of counts as under way, unless the job says when it ended."""
        return self.job.status in ENDED or bool(self.job.finished_at)

    @property
    def step(self) -> int:
        return max(self.metrics, default=0)

    @property
    def total_steps(self) -> int | None:
        return int(self.metrics[self.step].get("total_steps") or 0) or None if self.metrics else None

    @property
    def n_epochs(self) -> int:
        """Those begun so far, of the number that the provider resolved; 1 where it doesn't say."""
        found = self.job.hyperparameters.n_epochs if self.job.hyperparameters else None
        planned = found if isinstance(found, int) else 1
        return max(1, planned * self.step // self.total_steps) if self.total_steps else planned

    @property
    def latest(self) -> dict[str, Any]:
        """The newest value of every number: a validation loss is not measured at each step."""
        values: dict[str, Any] = {}
        for step in sorted(self.metrics):
            values |= {name: value for name, value in self.metrics[step].items() if value is not None}
        return values

    @property
    def curve(self) -> pd.DataFrame:
        """The steps so far: step, train_loss and whatever else was reported, in order of step."""
        rows = [{"train_loss": math.nan} | self.metrics[step] | {"step": step} for step in sorted(self.metrics)]
        return pd.DataFrame(rows, columns=None if rows else ["step", "train_loss"])

    @property
    def seconds_left(self) -> float | None:
        """The provider's own estimate, else from the pace of the steps; None where neither says."""
        if self.job.estimated_finish:
            return max(0.0, self.job.estimated_finish - time.time())
        first, last = min(self._times, default=0), max(self._times, default=0)
        if last == first or not self.total_steps or self.job.status != "running":
            return None
        return (self.total_steps - last) * (self._times[last] - self._times[first]) / (last - first)

    def seconds_left_of(self, jobs: float) -> float | None:
        """Until the end of this job and those after it, together `jobs` times its work; None: nobody knows yet."""
        left = self.seconds_left
        return None if left is None else left + (jobs - 1) * (time.time() - self.job.created_at + left)

    def look(self, client: openai.OpenAI) -> list[FineTuningJobEvent]:
        """Fetch the job and, not more often than people read, its events since the last time, oldest first."""
        status = self.job.status
        self.job = client.fine_tuning.jobs.retrieve(self.job.id)  # first, so that an ended job's events are all there
        if self.job.status == status and not self.ended and time.monotonic() - self._asked < EVENTS_SECONDS:
            return []
        self._asked = time.monotonic()
        news = list(self._unseen(client))[::-1]
        for event in news:
            self._newest = event.id
            data = event.data if isinstance(event.data, dict) else {}
            if "step" in data and event.type == "metrics":
                self.metrics[int(data["step"])] = data
                self._times[int(data["step"])] = event.created_at
        return news

    def advice(self, kept: list[dict[str, Any]] | None = None) -> list[Finding]:
        """Findings on the curve so far."""
        found = self.job.hyperparameters.learning_rate_multiplier if self.job.hyperparameters else None
        multiplier = float(found) if isinstance(found, int | float) else 1.0
        return advise(self.curve, n_epochs=self.n_epochs, multiplier=multiplier, checkpoints=kept or [])

    def _unseen(self, client: openai.OpenAI) -> Iterator[FineTuningJobEvent]:
        for event in client.fine_tuning.jobs.list_events(self.job.id, limit=EVENTS_A_PAGE):  # newest first
            if event.id == self._newest:
                return
            yield event


def follow(client: openai.OpenAI, job: FineTuningJob, *, title: str = "fine-tuning", jobs: float = 1) -> Following:
    """Wait for the job's end with a progress bar. Ctrl-C leaves the job running: the same command finds it again.

    The time left is that of `jobs` times this job's work, for a caller that has more of them in mind.
    """
    print(f"fine-tuning job {job.id} on {job.model}: {job.status}", flush=True)
    following, shown, warned = Following(job), 0, False
    with progress_bar(title, total=None) as step:
        for news in looks(client, following):
            shown = _show(following, news, shown, step, jobs)
            if news and not warned and (warning := _overfits(following)):
                warned = True
                print(f"so far {warning.seen}", flush=True)
    return following


def looks(client: openai.OpenAI, following: Following) -> Iterator[list[FineTuningJobEvent]]:
    """News of a job, look by look, until it has ended."""
    (shortest, longest), began = POLL_SECONDS, time.monotonic()
    while True:
        yield following.look(client)
        if following.ended:
            return
        time.sleep(min(max(shortest, (time.monotonic() - began) / 20), longest))


def curve(client: openai.OpenAI, job: FineTuningJob) -> pd.DataFrame:
    """The job's result file as a table; OpenAI serves it in base64, others as plain CSV: both are read."""
    if not job.result_files:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    content = client.files.content(job.result_files[0]).content
    with contextlib.suppress(binascii.Error):  # plain CSV
        content = base64.b64decode(content, validate=True)
    return pd.read_csv(io.BytesIO(content))


def checkpoints(client: openai.OpenAI, job: FineTuningJob) -> list[dict[str, Any]]:
    """Step, model name and validation loss of the checkpoints that the provider kept."""
    found = [
        {"step": c.step_number, "model": c.fine_tuned_model_checkpoint, "valid_loss": c.metrics.full_valid_loss}
        for c in client.fine_tuning.jobs.checkpoints.list(job.id)
    ]
    return sorted(found, key=lambda checkpoint: checkpoint["step"])


def epoch_ends(following: Following, kept: list[dict[str, Any]]) -> pd.DataFrame:
    """Columns step and full_valid_loss, one row an epoch; a provider keeps few checkpoints, its events tell of all."""
    found = {checkpoint["step"]: checkpoint["valid_loss"] for checkpoint in kept}
    for step, data in following.metrics.items():
        if data.get("full_valid_loss") is not None:
            found[step] = data["full_valid_loss"]
    return pd.DataFrame(sorted(found.items()), columns=["step", "full_valid_loss"])


def say_advice(findings: list[Finding]) -> None:
    """What the curve shows and what to do about it, a line each."""
    for found in findings:
        print(f"advice: {found}", flush=True)


def loss_table(client: openai.OpenAI, following: Following) -> pd.DataFrame:
    """What a picture needs: every step's losses, from the result file once there is one, and every epoch's end."""
    table = curve(client, following.job)
    if table.empty:
        table = following.curve
    ends = epoch_ends(following, checkpoints(client, following.job))
    return table.drop(columns="full_valid_loss", errors="ignore").merge(ends, on="step", how="left")


def _overfits(following: Following) -> Finding | None:
    return next((found for found in following.advice() if found.kind == "overfitting"), None)


def _show(following: Following, news: list[FineTuningJobEvent], shown: int, step: Step, jobs: float) -> int:
    """Bring the bar from the step that it shows to the newest, and leave a line for every epoch's end."""
    data = [event.data for event in news if event.type == "metrics" and isinstance(event.data, dict)]
    for metrics in data:
        if metrics.get("full_valid_loss") is not None:
            print(f"step {metrics['step']}: {numbers(metrics)}", flush=True)
    latest = numbers(following.latest, brief=True)
    status: str = following.job.status  # one that nobody has heard of is shown, not fatal
    note = "" if status == "running" else status
    note += " " * bool(note and latest) + latest
    step(following.step - shown, total=following.total_steps, note=note, left=following.seconds_left_of(jobs))
    return following.step


def numbers(metrics: dict[str, Any], *, brief: bool = False) -> str:
    """`training loss 0.312, validation loss 0.401, accuracy 0.912`, as far as they are known."""
    names = {"train_loss": "training loss", "full_valid_loss": "validation loss", "valid_loss": "validation loss"}
    names |= {"train_mean_token_accuracy": "accuracy"}
    found: dict[str, str] = {}
    for key, name in names.items():
        if metrics.get(key) is not None:
            found.setdefault(name, f"{name} {float(metrics[key]):.3f}")
    text = ", ".join(found.values())
    return text.replace("training loss", "loss").replace("validation loss", "validation") if brief else text
