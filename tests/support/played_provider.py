"""A provider played by a small HTTP server: it trains at once, knows the label of each review, and may be shut down."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.support.odd_server import CHAT, Asked, OddServer, Reply, odd_server
from tests.support.served import scored_completion

JOBS = "/v1/fine_tuning/jobs"
GONE = Reply(
    json.dumps({"error": {"message": "The model was shut down", "code": "model_not_found", "param": "model"}}).encode(),
    status=404,
)
SURE, UNSURE = 0.95, 0.55
USAGE = {"prompt_tokens": 150, "completion_tokens": 10, "total_tokens": 160}  # of each answer


class PlayedProvider:
    """Its model answers `share_wrong` of the reviews with a wrong label, and is less sure of these.

    `dies_after` is the number of answers after which it says that its model was shut down; None: never. While
    `is_training` its jobs run; `paid` has the review of each answer that it gave.
    """

    def __init__(self, server: OddServer, truth: Mapping[str, str], share_wrong: float) -> None:
        self.server, self.truth, self.share_wrong = server, truth, share_wrong
        self.labels = sorted(set(truth.values()))
        self.dies_after: int | None = None
        self.paid: list[str] = []
        self.is_training = False
        self.jobs: list[dict[str, Any]] = []
        self.files: list[bytes] = []
        server.routes |= {
            CHAT: self.answer,
            "GET /v1/files": lambda _: {"data": []},
            "POST /v1/files": self.upload,
            "GET /v1/files/*": lambda asked: self.file(asked.path.rpartition("-")[2]),
            f"POST {JOBS}": self.create,
            f"GET {JOBS}": lambda _: {"data": [self.as_it_is(job) for job in self.jobs]},
            f"GET {JOBS}/*": self.job,
        }

    @property
    def base_url(self) -> str:
        return self.server.base_url

    def answer(self, asked: Asked) -> object:
        if self.dies_after is not None and len(self.paid) >= self.dies_after:
            return GONE
        self.paid.append(asked.review)
        label = self.truth.get(asked.review, self.labels[0])
        chance = int(hashlib.sha256(asked.review.encode()).hexdigest()[:8], 16) / 16**8
        if chance >= self.share_wrong:
            return {**scored_completion(label, SURE), "usage": USAGE}
        wrong = self.labels[(self.labels.index(label) + 1) % len(self.labels)]
        return {**scored_completion(wrong, UNSURE, label), "usage": USAGE}

    def upload(self, asked: Asked) -> object:
        self.files.append(asked.body)
        return self.file(str(len(self.files)))

    def file(self, number: str) -> dict[str, Any]:
        return {"id": f"file-{number}", "object": "file", "status": "processed", "bytes": 1, "filename": "a.jsonl"}

    def create(self, asked: Asked) -> object:
        ended = {"fine_tuned_model": f"ft:played:{len(self.jobs)}", "created_at": 1, "trained_tokens": 5}
        job = {"id": f"job-{len(self.jobs)}", "model": asked.body["model"], "metadata": asked.body["metadata"]}
        self.jobs.append({**job, **ended, "training_file": asked.body["training_file"]})
        return self.as_it_is(self.jobs[-1])

    def job(self, asked: Asked) -> object:
        name, _, part = asked.path.removeprefix(f"{JOBS}/").partition("/")
        return {"data": []} if part else self.as_it_is(next(job for job in self.jobs if job["id"] == name))

    def as_it_is(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job with its status."""
        if self.is_training:
            return {**job, "status": "running", "fine_tuned_model": None}
        return {**job, "status": "succeeded"}

    def training_lines(self) -> list[dict[str, Any]]:
        """The lines of the last job's training file."""
        content = self.files[int(self.jobs[-1]["training_file"].rpartition("-")[2]) - 1]
        return [json.loads(line) for line in content.split(b"\r\n") for line in line.splitlines() if line[:1] == b"{"]


@contextmanager
def played_provider(truth: Mapping[str, str], *, share_wrong: float = 0.0) -> Iterator[PlayedProvider]:
    """By the user message of each review, its label."""
    with odd_server() as server:
        yield PlayedProvider(server, truth, share_wrong)
