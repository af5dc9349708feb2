"""Send many requests as one file with the Batch API: half the price, finished within a day and usually much sooner.

If a run is killed at any moment, the next run resumes its batches. A batch's identity is a hash of its questions; it is
noted in the store before anything is sent, and it is part of the batch's metadata. Before a batch is created, the
provider is asked whether it exists.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from typing import Any

import openai
from filelock import FileLock
from openai.types import Batch

from reviewtune.core.formatting import counted
from reviewtune.core.progress import Step
from reviewtune.errors import ProviderError
from reviewtune.providers.answer_cache import AnswerStore, BatchNote, BatchNotes
from reviewtune.providers.batch_outcome import Outcome, read_outcome
from reviewtune.providers.budget import Budget
from reviewtune.providers.call_policy import CallPolicy
from reviewtune.providers.completion import Question, Request

MOST_REQUESTS = 50_000  # per file, OpenAI's limit
MOST_BYTES = 190 * 2**20  # per file; OpenAI's limit is 200 MB
ROUNDS = 4  # how often lines that came back without an answer are sent
ENDED = ("completed", "failed", "expired", "cancelled")
ENDED_BADLY = ("failed", "expired", "cancelled")
KEPT_SECONDS = 30 * 24 * 3600  # how long a provider keeps a batch's output
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds between two requests for the batch's status
PAUSE_SHARE = 1 / 50  # of the time that the batch has taken so far
IDENTITY = "reviewtune"  # key of the batch's identity in its metadata


def ask_batch(
    client: openai.OpenAI,
    request: Request,
    questions: Sequence[Question],
    *,
    policy: CallPolicy,
    store: AnswerStore,
    budget: Budget,
    step: Step,
) -> int:
    """Ask every question.

    Args:
        client: a client of the provider.
        request: the model and its settings.
        questions: what to ask.
        policy: how the provider is called.
        store: where answers and running batches are kept.
        budget: what is left to spend.
        step: called with the number of finished lines and a note on the batch.

    Returns:
        The number of requests that were sent; 0 if all questions were in batches of an earlier run.

    Raises:
        ProviderError: the provider refused the batch or a line, or lines got no answer.
        BudgetError: the batch could cost more than is left; nothing was sent.
        openai.APIError: the provider cannot be reached.
    """
    batches = _Batches(client, request=request, policy=policy, store=store, budget=budget, step=step)
    sent = created = 0
    for number in count():
        answered = store.find([question.key for question in questions])
        missing = [question for question in questions if question.key not in answered]
        if not missing:
            return sent
        if created >= ROUNDS:
            break
        # Locked, so that two processes with the same questions create one batch.
        with FileLock(f"{store.path}.batches.lock"), _batch_api_errors(policy):
            notes = batches.running(missing)
            included = frozenset().union(*(note.keys for note in notes))
            for chunk in _chunks([question for question in missing if question.key not in included]):
                note = batches.create(chunk, number)
                notes.append(note)
                sent += len(chunk) if note.identity in batches.began else 0
            created += any(note.identity in batches.began for note in notes)
        for note in notes:
            batches.collect(note, batches.follow(note))
    raise ProviderError(
        f"provider {policy.provider.kind}: {len(missing)} of {counted(len(questions), 'line')} came back without an "
        f"answer {ROUNDS} times; the other answers are kept: run the same command again, or with evaluation.mode=online"
    )


@contextmanager
def _batch_api_errors(policy: CallPolicy) -> Iterator[None]:
    """Explain the errors of a server that has no Batch API, as some compatible servers have none."""
    try:
        yield
    except openai.APIStatusError as error:
        if error.status_code in (404, 405, 501):
            who = f"provider {policy.provider.kind}"
            raise ProviderError(f"{who}: it has no Batch API; set evaluation.mode=online") from error
        raise


def _chunks(questions: Sequence[Question]) -> Iterator[list[Question]]:
    """Yield the questions in lists that each fit into one file."""
    queue = iter(questions)
    most = MOST_REQUESTS
    if questions:
        longest = max(len(json.dumps(question.body)) for question in questions) + 200  # and the rest of the line
        most = max(1, min(MOST_REQUESTS, MOST_BYTES // longest))
    while chunk := list(islice(queue, most)):
        yield chunk


class _Batches:
    """The batches of one model at one provider."""

    def __init__(
        self,
        client: openai.OpenAI,
        *,
        request: Request,
        policy: CallPolicy,
        store: AnswerStore,
        budget: Budget,
        step: Step,
    ) -> None:
        self.client, self.request, self.policy = client, request, policy
        self.store, self.notes = store, BatchNotes(store, policy.address)
        self.budget, self.step = budget, step
        self.began: dict[str, float] = {}  # Unix seconds, by identity, of the batches that this run created
        self.set_aside: dict[str, float] = {}  # USD, by identity

    # --- find or create ---

    def running(self, missing: Sequence[Question]) -> list[BatchNote]:
        """Batches of earlier runs that hold any of these questions."""
        wanted = {question.key for question in missing}
        notes = []
        for note in self.notes:
            if not wanted.isdisjoint(note.keys):
                batch = self.at_provider(note)
                if batch is None:
                    self.notes.forget(note)  # the run was killed before the batch was created
                else:
                    notes.append(self.confirm(note, batch))
        return notes

    def at_provider(self, note: BatchNote) -> Batch | None:
        if note.batch_id:
            try:
                return self.client.batches.retrieve(note.batch_id)
            except openai.NotFoundError:
                return None  # the note is of a different account, or of one that was cleared
        return next(self.candidates(note.identity, usable=False), None)  # the newest, whatever its status

    def candidates(self, identity: str, *, usable: bool) -> Iterator[Batch]:
        """Batches at the provider with this identity; with `usable` only those that did not fail."""
        for batch in self.client.batches.list(limit=100):
            if batch.created_at < time.time() - KEPT_SECONDS:
                return
            if (batch.metadata or {}).get(IDENTITY) == identity and not (usable and batch.status in ENDED_BADLY):
                yield batch

    def create(self, questions: Sequence[Question], number: int) -> BatchNote:
        """Find the batch of exactly these questions or create it; it is noted before and confirmed after."""
        keys = [question.key for question in questions]
        identity = hashlib.sha256(json.dumps([sorted(keys), number]).encode()).hexdigest()
        note = BatchNote(identity, batch_id=None, keys=frozenset(keys))
        self.notes.write(note)
        batch = next(self.candidates(identity, usable=True), None)
        if batch is None:
            highest = sum(self.policy.highest(question, self.request) for question in questions)
            self.budget.set_aside(highest)
            self.set_aside[identity] = highest
            self.began[identity] = time.time()
            batch = self.send(identity, questions)
        return self.confirm(note, batch)

    def send(self, identity: str, questions: Sequence[Question]) -> Batch:
        attempt = sum(1 for _ in self.candidates(identity, usable=False))
        file_id = self.upload(identity, questions)
        once = self.client.with_options(max_retries=0)  # a create request that is sent again could be paid for twice
        return once.batches.create(
            input_file_id=file_id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={IDENTITY: identity, "model": self.request.model[:512]},
            extra_headers={"Idempotency-Key": f"{identity}-{attempt}"},
        )

    def upload(self, identity: str, questions: Sequence[Question]) -> str:
        """The id of the input file at the provider: one whose name holds the identity, or a new upload."""
        name = f"reviewtune-{identity[:32]}.jsonl"
        content = b"".join(self._line(index, question) for index, question in enumerate(questions))
        for file in self.client.files.list(purpose="batch"):
            if file.filename == name and file.bytes == len(content):
                return file.id
        return self.client.files.create(file=(name, content), purpose="batch").id

    def _line(self, index: int, question: Question) -> bytes:
        url = "/chat/completions" if self.policy.provider.kind == "azure" else "/v1/chat/completions"
        line = {"custom_id": f"{index}-{question.key}", "method": "POST", "url": url}
        return json.dumps({**line, "body": question.body}).encode() + b"\n"

    def confirm(self, note: BatchNote, batch: Batch) -> BatchNote:
        """The note with the batch's id."""
        if note.batch_id is None:
            note = note._replace(batch_id=batch.id)
            self.notes.write(note)
        return note

    # --- follow and collect ---

    def follow(self, note: BatchNote) -> Batch:
        """Wait until the batch has ended. Ctrl-C leaves it running; the same command finds it again."""
        assert note.batch_id is not None
        started, shown = time.monotonic(), 0
        self.step(note=f"batch {note.batch_id}")
        while (batch := self.client.batches.retrieve(note.batch_id)).status not in ENDED:
            shown = self._show(batch, shown)
            time.sleep(min(max(SHORTEST_PAUSE, (time.monotonic() - started) * PAUSE_SHARE), LONGEST_PAUSE))
        self._show(batch, shown)
        return batch

    def _show(self, batch: Batch, shown: int) -> int:
        counts = batch.request_counts
        done = counts.completed + counts.failed if counts else 0
        self.step(max(0, done - shown), note=f"batch {batch.id}: {batch.status}")
        return max(done, shown)

    def collect(self, note: BatchNote, batch: Batch) -> None:
        """Keep the batch's answers and forget the batch, then raise if it failed."""
        outcome = self._outcome(note, batch)
        self.store.keep(self.request.model, outcome.answers)
        if note.identity in self.set_aside:  # otherwise an earlier run reserved it, and the highest cost stays booked
            paid = sum(self.policy.paid(answer) for answer in outcome.answers.values())
            self.budget.settle(self.set_aside.pop(note.identity), paid)
        self.notes.forget(note)
        who = f"provider {self.policy.provider.kind}: batch {batch.id}"
        if outcome.refused:
            raise ProviderError(f"{who}: {outcome.refused}; fix the request, the other answers are kept")
        if batch.status == "failed":
            faults = batch.errors.data if batch.errors and batch.errors.data else []
            reason = faults[0].message if faults else "no reason was given"
            raise ProviderError(f"{who} failed: {reason}; fix that, or set evaluation.mode=online")
        if batch.status == "cancelled":
            left = len(note.keys) - len(outcome.answers)
            raise ProviderError(
                f"{who} was cancelled, without {counted(left, 'answer')}; run the same command again for them"
            )

    def _outcome(self, note: BatchNote, batch: Batch) -> Outcome:
        if note.identity in self.began:
            began, ended = self.began[note.identity], time.time()
        else:
            began, ended = float(batch.created_at), float(batch.completed_at or time.time())
        output, errors = self._lines(batch.output_file_id), self._lines(batch.error_file_id)
        return read_outcome(output, errors, began=began, ended=ended)

    def _lines(self, file_id: str | None) -> Iterator[dict[str, Any]]:
        if file_id is None:
            return
        try:
            text = self.client.files.content(file_id).text
        except openai.NotFoundError:
            return  # the provider deleted the file: its questions are asked again
        for line in text.splitlines():
            if line.strip():
                yield json.loads(line)
