"""Send many requests as one file with the Batch API: half the price, finished within a day and usually much sooner.

If a run is killed at any moment, the next run resumes its batches. A batch's identity is a hash of its questions; it is
noted in the store before anything is sent, and it is part of the batch's metadata. Before a batch is created, the
provider is asked whether it exists.
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

import httpx2
import openai
from filelock import FileLock
from openai.types import Batch

from reviewtune.core.formatting import counted
from reviewtune.core.terminal.progress import Step
from reviewtune.errors import ProviderError
from reviewtune.providers.answer_cache import AnswerStore, BatchNote, BatchNotes
from reviewtune.providers.batch.outcome import Line, Outcome, lines_of, read_outcome
from reviewtune.providers.budget import Budget
from reviewtune.providers.call_policy import CallPolicy
from reviewtune.providers.completion import Answer, Fetched, Question, Request, timed, unreadable
from reviewtune.providers.responses.http_client import MOST_BYTES as MOST_BODY_BYTES
from reviewtune.providers.responses.http_client import BodyLimit
from reviewtune.providers.responses.json_text import UnreadableError
from reviewtune.providers.responses.polling import Polling
from reviewtune.providers.responses.provider_errors import ABSENT, about_parameters
from reviewtune.providers.retry_policy import is_refused

MOST_REQUESTS = 50_000  # per file, OpenAI's limit
MOST_BYTES = 190 * 2**20  # per file; OpenAI's limit is 200 MB
MOST_LINE_BYTES = 2**20  # of a result file, on average
ROUNDS = 4  # how often lines that came back without an answer are sent
ENDED = ("completed", "failed", "expired", "cancelled")
ENDED_BADLY = ("failed", "expired", "cancelled")
KEPT_SECONDS = 30 * 24 * 3600  # how long a provider keeps a batch's output
LONGEST_PAUSE = 30.0  # seconds between two requests for the batch's status
PAUSE_SHARE = 1 / 50  # of the time that the batch has taken so far
IDENTITY = "reviewtune"  # key of the batch's identity in its metadata


def has_batches(client: openai.OpenAI) -> bool:
    """Whether the provider has a Batch API; False also if it does not answer, which the next request will report."""
    try:
        client.batches.list(limit=1)
    except (openai.OpenAIError, UnreadableError):
        return False
    return True


def ask_batch(batches: "Batches", questions: Sequence[Question], *, proven: bool = False) -> Fetched:
    """Ask every question.

    Args:
        batches: how and where the batches are sent.
        questions: what to ask.
        proven: whether the provider answered requests with these settings before.

    Returns:
        The number of requests that were sent, 0 if all questions were in batches of an earlier run; and the questions
        without a usable answer.

    Raises:
        ProviderError: the provider refused the batch, or it answered none of the questions.
        BudgetError: the batch could cost more than is left; nothing was sent.
        openai.OpenAIError: the provider cannot be reached or read.
    """
    sent = created = 0
    for number in count():
        missing = batches.missing(questions)
        if not missing or created >= ROUNDS:
            break
        # Locked, so that two processes with the same questions create one batch.
        with FileLock(f"{batches.store.path}.batches.lock"), _batch_api_errors(batches.policy):
            notes = batches.running(missing)
            included = frozenset().union(*(note.keys for note in notes))
            for chunk in _chunks([question for question in missing if question.key not in included]):
                note = batches.create(chunk, number)
                notes.append(note)
                sent += len(chunk) if note.identity in batches.began else 0
            created += any(note.identity in batches.began for note in notes)
        for note in notes:
            batches.collect(note, batches.follow(note))
    now = time.time()
    lost = unreadable(f"its line of the batch came back without an answer {ROUNDS} times")
    lost = timed(lost, began=now, ended=now, mode="batch")
    aside = batches.unreadable | {question.key: lost for question in missing}
    if len(aside) == len(questions) and not proven:
        reason = str(next(iter(aside.values())).unreadable)
        raise ProviderError(
            f"provider {batches.policy.provider.kind}: none of {counted(len(questions), 'line')} has a usable "
            f"answer; the first: {reason}; {about_parameters(reason)}; or set evaluation.mode=online"
        )
    return Fetched(sent, aside)


@contextmanager
def _batch_api_errors(policy: CallPolicy) -> Iterator[None]:
    """Explain the errors of a server that has no Batch API, as some compatible servers have none."""
    try:
        yield
    except openai.APIStatusError as error:
        if error.status_code in ABSENT:
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


class Batches:
    """The batches of one model at one provider.

    Args:
        client: a client of the provider.
        request: the model and its settings.
        policy: how the provider is called.
        store: where answers and running batches are kept.
        address: of the provider, as it is in the keys of answers.
        budget: what is left to spend.
        step: called with the number of finished lines and a note on the batch.
    """

    def __init__(
        self,
        client: openai.OpenAI,
        *,
        request: Request,
        policy: CallPolicy,
        store: AnswerStore,
        address: str,
        budget: Budget,
        step: Step,
    ) -> None:
        self.client, self.request, self.policy = client, request, policy
        self.store, self.notes = store, BatchNotes(store, address)
        self.budget, self.step = budget, step
        self.began: dict[str, float] = {}  # Unix seconds, by identity, of the batches that this run created
        self.set_aside: dict[str, dict[str, float]] = {}  # USD by the question's key, by identity
        self.uploaded: set[str] = set()  # identities whose input file is at the provider
        self.unreadable: dict[str, Answer] = {}  # by the question's key

    def missing(self, questions: Sequence[Question]) -> list[Question]:
        """The questions that have no answer yet and may get one."""
        answered = self.store.find([question.key for question in questions])
        return [question for question in questions if question.key not in answered.keys() | self.unreadable.keys()]

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
        newest = self.candidates(note.identity, usable=False)
        return next((batch for batch in newest if batch.status != "failed"), None)  # that may be of an earlier try

    def candidates(self, identity: str, *, usable: bool) -> Iterator[Batch]:
        """Batches at the provider with this identity; with `usable` only those that did not fail."""
        for batch in self.client.batches.list(limit=100):
            if 0 < batch.created_at < time.time() - KEPT_SECONDS:  # 0: the server does not say
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
            highest = {question.key: self.policy.highest(question, self.request) for question in questions}
            self.budget.set_aside(sum(highest.values()))
            self.set_aside[identity] = highest
            self.began[identity] = time.time()
            with self._released_if_refused(identity):
                batch = self.send(identity, questions)
        return self.confirm(note, batch)

    @contextmanager
    def _released_if_refused(self, identity: str) -> Iterator[None]:
        """Give back what is set aside if no batch was created; after other errors of the creation nobody knows."""
        try:
            yield
        except BaseException as error:
            if is_refused(error) or identity not in self.uploaded:
                self.budget.settle(sum(self.set_aside.pop(identity).values()), 0.0)
            raise

    def send(self, identity: str, questions: Sequence[Question]) -> Batch:
        attempt = sum(1 for _ in self.candidates(identity, usable=False))
        file_id = self.upload(identity, questions)
        self.uploaded.add(identity)
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
        polling, shown = Polling(f"batch {note.batch_id}", longest=LONGEST_PAUSE, share=PAUSE_SHARE), 0
        self.step(note=f"batch {note.batch_id}")
        while not _has_ended(batch := self.client.batches.retrieve(note.batch_id)):
            shown = self._show(batch, shown)
            polling.wait(batch.status)
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
        self.unreadable |= outcome.unreadable
        if note.identity in self.set_aside:  # otherwise an earlier run reserved it, and the highest cost stays booked
            highest = self.set_aside.pop(note.identity)
            self.budget.settle(sum(highest.values()), self._paid(outcome, highest, batch))
        self.notes.forget(note)
        who = f"provider {self.policy.provider.kind}: batch {batch.id}"
        if batch.status == "failed":
            faults = batch.errors.data if batch.errors and batch.errors.data else []
            reason = (faults[0].message if faults else None) or "no reason was given"
            raise ProviderError(f"{who} failed: {reason}; fix that, or set evaluation.mode=online")
        if batch.status == "cancelled":
            left = len(note.keys) - len(outcome.answers)
            raise ProviderError(
                f"{who} was cancelled, without {counted(left, 'answer')}; run the same command again for them"
            )

    def _paid(self, outcome: Outcome, highest: Mapping[str, float], batch: Batch) -> float:
        """USD; the highest cost of what was answered without a count of tokens, unreadably, or in a lost file."""
        paid = sum(highest.get(key, 0.0) for key in outcome.garbled)
        for key, answer in outcome.answers.items():
            known = answer.usage.prompt or answer.refused
            paid += self.policy.paid(answer) if known else highest.get(key, 0.0)
        completed = batch.request_counts.completed if batch.request_counts else 0
        seen = sum(1 for answer in outcome.answers.values() if not answer.refused) + len(outcome.garbled)
        lost = max(0, completed - seen)
        left = [usd for key, usd in highest.items() if key not in outcome.answers and key not in outcome.garbled]
        return paid + sum(sorted(left, reverse=True)[:lost])

    def _outcome(self, note: BatchNote, batch: Batch) -> Outcome:
        if note.identity in self.began:
            began, ended = self.began[note.identity], time.time()
        else:
            ended = float(batch.completed_at or time.time())
            began = min(float(batch.created_at or ended), ended)
        files = (batch.output_file_id, batch.error_file_id)
        lines = (line for file_id in files for line in self._lines(file_id, len(note.keys)))
        return read_outcome(lines, began=began, ended=ended)

    def _lines(self, file_id: str | None, n: int) -> Iterator[Line]:
        """The lines of a result file with about `n` lines; some servers write an empty id if there is no such file."""
        if not file_id:
            return
        with tempfile.TemporaryDirectory() as folder:  # the file may be larger than the free memory
            path = Path(folder, "lines.jsonl")
            try:
                self._download(file_id, path, most=MOST_BODY_BYTES + n * MOST_LINE_BYTES)
            except openai.NotFoundError:
                return  # the provider deleted the file: its questions are asked again
            yield from lines_of(path)

    def _download(self, file_id: str, path: Path, most: int) -> None:
        limit = BodyLimit(self.policy.provider.timeout, most=most)
        try:
            with self.client.files.with_streaming_response.content(file_id) as response, path.open("wb") as file:
                for part in response.iter_bytes():
                    limit.add(part)
                    file.write(part)
        except httpx2.HTTPError as error:
            raise UnreadableError(f"only a part of file {file_id} ({error})") from error


def _has_ended(batch: Batch) -> bool:
    """Some servers have a word of their own for how a batch ended, but say when it did."""
    times = (batch.completed_at, batch.failed_at, batch.expired_at, batch.cancelled_at)
    return batch.status in ENDED or any(times)
