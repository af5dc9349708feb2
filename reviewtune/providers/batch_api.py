"""Many requests as one file: the Batch API, at half the price, finished within a day and mostly much sooner.

Killed at any moment, the next run goes on: a batch's identity is a hash of its questions, noted in the store before
anything is sent and written into the batch's metadata; before a batch is created the provider is asked for it.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from typing import Any, NamedTuple

import openai
from filelock import FileLock
from openai.types import Batch
from pydantic import ValidationError

from reviewtune.core.progress import Step
from reviewtune.errors import ProviderError
from reviewtune.providers.answer_cache import AnswerStore
from reviewtune.providers.budget import Budget
from reviewtune.providers.call_policy import Terms
from reviewtune.providers.completion import Answer, Question, Request, read_completion, timed
from reviewtune.providers.rejections import refused_line

MOST_REQUESTS = 50_000  # in one file, by OpenAI's rules
MOST_BYTES = 190 * 2**20  # of 200 MB
ROUNDS = 4  # for lines that came back without an answer though they were right
ENDED = ("completed", "failed", "expired", "cancelled")
ENDED_BADLY = ("failed", "expired", "cancelled")
KEPT_SECONDS = 30 * 24 * 3600  # how long a provider keeps a batch's output
POLL_SECONDS = (0.1, 30.0)  # from, to: a fiftieth of the time that it has taken so far


class Note(NamedTuple):
    """A batch under way, as the store remembers it: `batch_id` None until the provider confirmed it."""

    identity: str
    batch_id: str | None
    keys: frozenset[str]


class Outcome(NamedTuple):
    answers: dict[str, Answer]
    refused: str | None  # what the provider said of a line that no repetition mends


def ask_batch(
    client: openai.OpenAI,
    request: Request,
    questions: Sequence[Question],
    *,
    terms: Terms,
    store: AnswerStore,
    budget: Budget,
    step: Step,
) -> int:
    """Ask every question; returns how many requests were sent, 0 when all were in batches of an earlier run.

    Raises:
        ProviderError: the provider refused the batch or a line, or lines stayed without an answer.
        BudgetError: it could cost more than is left; nothing was sent.
        openai.APIError: the provider cannot be reached.
    """
    work = _Work(client, request, terms, store, budget, step)
    sent = created = 0
    for number in count():
        found = store.find([question.key for question in questions])
        missing = [question for question in questions if question.key not in found]
        if not missing:
            return sent
        if created >= ROUNDS:
            break
        # Two processes with the same questions make one batch.
        with FileLock(f"{store.path}.batches.lock"), _offered(terms):
            notes = work.attach(missing)
            known = frozenset().union(*(note.keys for note in notes))
            for chunk in work.chunks([question for question in missing if question.key not in known]):
                notes.append(work.create(chunk, number))
                sent += len(chunk) if notes[-1].identity in work.began else 0
            created += any(note.identity in work.began for note in notes)
        for note in notes:
            work.collect(note, work.follow(note))
    raise ProviderError(
        f"provider {terms.provider.kind}: {len(missing)} of {len(questions)} lines came back without an answer "
        f"{ROUNDS} times; what did come is kept: run the same command again, or with evaluation.mode=online"
    )


@contextmanager
def _offered(terms: Terms) -> Iterator[None]:
    """Not every server that speaks the protocol knows batches."""
    try:
        yield
    except openai.APIStatusError as error:
        if error.status_code in (404, 405, 501):
            who = f"provider {terms.provider.kind}"
            raise ProviderError(f"{who}: it has no Batch API; set evaluation.mode=online") from error
        raise


class _Work:
    """One model's questions at one provider."""

    def __init__(
        self, client: openai.OpenAI, request: Request, terms: Terms, store: AnswerStore, budget: Budget, step: Step
    ) -> None:
        self.client, self.request, self.terms = client, request, terms
        self.store, self.budget, self.step = store, budget, step
        self.began: dict[str, float] = {}  # of batches that this very run created
        self.set_aside: dict[str, float] = {}

    # --- find or create ---

    def attach(self, missing: Sequence[Question]) -> list[Note]:
        """Batches of earlier runs that hold any of these questions."""
        wanted = {question.key for question in missing}
        notes = []
        for row in self.store.rows(
            "SELECT identity, batch_id, keys FROM batches WHERE address = ?", self.terms.address
        ):
            note = Note(str(row[0]), None if row[1] is None else str(row[1]), frozenset(json.loads(str(row[2]))))
            if not wanted.isdisjoint(note.keys):
                batch = self.known(note)
                if batch is None:
                    self.forget(note)  # killed before it was created
                else:
                    notes.append(self.confirm(note, batch))
        return notes

    def known(self, note: Note) -> Batch | None:
        if note.batch_id:
            try:
                return self.client.batches.retrieve(note.batch_id)
            except openai.NotFoundError:
                return None  # another account, or one that was cleared
        return next(self.candidates(note.identity, usable=False), None)  # the newest, whatever became of it

    def candidates(self, identity: str, *, usable: bool) -> Iterator[Batch]:
        """Batches at the provider with this identity; `usable`: that ended well or may still do."""
        for batch in self.client.batches.list(limit=100):
            if batch.created_at < time.time() - KEPT_SECONDS:
                return
            if (batch.metadata or {}).get("reviewtune") == identity and not (usable and batch.status in ENDED_BADLY):
                yield batch

    def chunks(self, questions: Sequence[Question]) -> Iterator[list[Question]]:
        """As many questions as one file may hold."""
        line = iter(questions)
        most = MOST_REQUESTS
        if questions:
            longest = max(len(json.dumps(self.request.body(question.chat))) for question in questions) + 200
            most = max(1, min(MOST_REQUESTS, MOST_BYTES // longest))
        while chunk := list(islice(line, most)):
            yield chunk

    def create(self, questions: Sequence[Question], number: int) -> Note:
        """Find the batch of exactly these questions or create it; noted before, confirmed after."""
        keys = [question.key for question in questions]
        identity = hashlib.sha256(json.dumps([sorted(keys), number]).encode()).hexdigest()
        note = Note(identity, None, frozenset(keys))
        self._write(note)
        batch = next(self.candidates(identity, usable=True), None)
        if batch is None:
            highest = sum(self.terms.highest(question, self.request) for question in questions)
            self.budget.set_aside(highest)
            self.set_aside[identity] = highest
            self.began[identity] = time.time()
            batch = self.send(identity, questions)
        return self.confirm(note, batch)

    def send(self, identity: str, questions: Sequence[Question]) -> Batch:
        attempt = sum(1 for _ in self.candidates(identity, usable=False))
        file_id = self.upload(identity, questions)
        once = self.client.with_options(max_retries=0)  # a repeated create could be paid twice
        return once.batches.create(
            input_file_id=file_id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"reviewtune": identity, "model": self.request.model[:512]},
            extra_headers={"Idempotency-Key": f"{identity}-{attempt}"},
        )

    def upload(self, identity: str, questions: Sequence[Question]) -> str:
        """The input file at the provider, found by a name that holds its identity, or uploaded."""
        name = f"reviewtune-{identity[:32]}.jsonl"
        content = b"".join(self._line(index, question) for index, question in enumerate(questions))
        for found in self.client.files.list(purpose="batch"):
            if found.filename == name and found.bytes == len(content):
                return found.id
        return self.client.files.create(file=(name, content), purpose="batch").id

    def _line(self, index: int, question: Question) -> bytes:
        url = "/chat/completions" if self.terms.provider.kind == "azure" else "/v1/chat/completions"
        line = {"custom_id": f"{index}-{question.key}", "method": "POST", "url": url}
        return json.dumps({**line, "body": self.request.body(question.chat)}).encode() + b"\n"

    # --- notes ---

    def _write(self, note: Note) -> None:
        with self.store.writing() as connection:
            row = (note.identity, self.terms.address, note.batch_id, json.dumps(sorted(note.keys)))
            connection.execute("INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?)", row)

    def confirm(self, note: Note, batch: Batch) -> Note:
        if note.batch_id is None:
            note = note._replace(batch_id=batch.id)
            self._write(note)
        return note

    def forget(self, note: Note) -> None:
        with self.store.writing() as connection:
            connection.execute("DELETE FROM batches WHERE identity = ?", (note.identity,))

    # --- follow and collect ---

    def follow(self, note: Note) -> Batch:
        """Wait for the end; Ctrl-C leaves the batch running, the same command finds it again."""
        assert note.batch_id is not None
        started, shown = time.monotonic(), 0
        self.step(note=f"batch {note.batch_id}")
        while (batch := self.client.batches.retrieve(note.batch_id)).status not in ENDED:
            shown = self._show(batch, shown)
            shortest, longest = POLL_SECONDS
            time.sleep(min(max(shortest, (time.monotonic() - started) / 50), longest))
        self._show(batch, shown)
        return batch

    def _show(self, batch: Batch, shown: int) -> int:
        counts = batch.request_counts
        done = counts.completed + counts.failed if counts else 0
        self.step(max(0, done - shown), note=f"batch {batch.id}: {batch.status}")
        return max(done, shown)

    def collect(self, note: Note, batch: Batch) -> None:
        """Keep what the batch answered, then forget it; only then complain."""
        outcome = self._outcome(note, batch)
        self.store.keep(self.request.model, outcome.answers)
        if note.identity in self.set_aside:  # else an earlier run set it aside, and it stays booked at its highest
            paid = sum(self.terms.paid(answer) for answer in outcome.answers.values())
            self.budget.settle(self.set_aside.pop(note.identity), paid)
        self.forget(note)
        who = f"provider {self.terms.provider.kind}: batch {batch.id}"
        if outcome.refused:
            raise ProviderError(f"{who}: {outcome.refused}; mend the request, the other answers are kept")
        if batch.status == "failed":
            faults = batch.errors.data if batch.errors and batch.errors.data else []
            said = faults[0].message if faults else "no reason was given"
            raise ProviderError(f"{who} failed: {said}; mend that, or set evaluation.mode=online")
        if batch.status == "cancelled":
            left = len(note.keys) - len(outcome.answers)
            raise ProviderError(f"{who} was cancelled, {left} answers are missing; run the same command again for them")

    def _outcome(self, note: Note, batch: Batch) -> Outcome:
        began = self.began.get(note.identity)
        times = (began, time.time()) if began else (float(batch.created_at), float(batch.completed_at or time.time()))
        answers: dict[str, Answer] = {}
        refused = None
        for line in self._lines(batch.output_file_id):
            try:
                read = read_completion(line["response"]["body"])
            except (ValidationError, KeyError, TypeError):
                continue  # garbage: it is asked again
            answers[_key(line)] = timed(read, began=times[0], ended=times[1], mode="batch")
        for line in self._lines(batch.error_file_id):
            if unanswered := refused_line(line):
                answers[_key(line)] = timed(unanswered, began=times[0], ended=times[1], mode="batch")
            else:
                refused = refused or _refusal(line)
        return Outcome(answers, refused)

    def _lines(self, file_id: str | None) -> Iterator[dict[str, Any]]:
        if file_id is None:
            return
        try:
            text = self.client.files.content(file_id).text
        except openai.NotFoundError:
            return  # its time is over: what it held is asked again
        for line in text.splitlines():
            if line.strip():
                yield json.loads(line)


def _key(line: dict[str, Any]) -> str:
    return str(line["custom_id"]).partition("-")[2]


def _refusal(line: dict[str, Any]) -> str | None:
    """What was said of a line that is wrong in itself; None where another try may help."""
    response = line.get("response") or {}
    status = int(response.get("status_code") or 0)
    if not 400 <= status < 500 or status in (408, 409, 429):
        return None
    message = ((response.get("body") or {}).get("error") or {}).get("message", "no reason was given")
    return f"line {line['custom_id'].partition('-')[0]}: HTTP {status}: {' '.join(str(message).split())}"
