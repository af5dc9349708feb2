"""Requests join and leave a running batch between steps: none waits for long, and answers are those given alone."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from reviewtune.local_server.engine.attention import ATTENTION
from reviewtune.local_server.engine.generation.batching import Batcher
from reviewtune.local_server.engine.generation.generate import Generator
from reviewtune.local_server.engine.generation.running_rows import PendingRequest
from reviewtune.local_server.engine.model_loading import load_model
from reviewtune.local_server.engine.types import ChatMessage, GenerationRequest, GenerationResult, Progress
from tests.support.engine_models import REVIEWS, SCHEMA, asked, one_thread, real, tiny

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("one_thread")]
__all__ = ["one_thread"]
TEXTS = [text for texts in REVIEWS.values() for text in texts]
FEW_STEPS = 6  # of others, while a short prompt is read and its first token chosen


def chat(text: str, tokens: int, **options: object) -> GenerationRequest:
    return GenerationRequest((ChatMessage("user", text),), temperature=0, max_tokens=tokens, **options)  # type: ignore[arg-type]


LONG = chat("Tell me a story.", 300, logit_bias={0: -100, 1: -100, 2: -100})  # never ends by itself
BRIEF = chat("Yes or no?", 1)


@pytest.fixture(scope="module")
def small() -> Generator:
    return Generator(load_model(tiny(), torch.float32, ATTENTION))


def add(generator: Generator, batcher: Batcher, *requests: GenerationRequest) -> list[PendingRequest]:
    pending = [generator.prepare(request) for request in requests]
    for request in pending:
        batcher.add(request)
    return pending


def steps_until_end(batcher: Batcher, request: PendingRequest) -> int:
    steps = 0
    while request.unfinished:
        batcher.step()
        steps += 1
        assert steps < 2000
    return steps


def finish(batcher: Batcher) -> None:
    while batcher.busy:
        batcher.step()


def test_a_short_answer_overtakes_a_long_one(small: Generator) -> None:
    batcher = small.batcher()
    (long,) = add(small, batcher, LONG)
    for _ in range(50):
        batcher.step()
    (brief,) = add(small, batcher, BRIEF)
    assert steps_until_end(batcher, brief) <= FEW_STEPS
    assert long.unfinished
    assert len(long.answers[0].tokens) < 60


def test_a_long_prompt_is_read_in_parts_between_which_others_are_answered(small: Generator) -> None:
    batcher = small.batcher(tokens=32)
    (long,) = add(small, batcher, chat("word " * 400, 5))
    batcher.step()
    (brief,) = add(small, batcher, BRIEF)
    (label,) = add(small, batcher, GenerationRequest(asked("Late."), temperature=0, schema=SCHEMA))
    assert steps_until_end(batcher, brief) <= FEW_STEPS
    assert steps_until_end(batcher, label) <= 2 * FEW_STEPS
    assert not long.answers[0].tokens
    assert steps_until_end(batcher, long) > 8
    assert long.result() == small.complete([long.request])[0]


def test_no_step_reads_more_than_its_tokens(small: Generator) -> None:
    batcher = small.batcher(tokens=64)
    add(small, batcher, *[chat(f"{text} " * times, 3) for text in TEXTS for times in (1, 5, 40)])
    while batcher.busy:
        batcher.step()
        assert batcher.read <= 64


def test_a_removed_request_is_computed_no_further(small: Generator) -> None:
    batcher = small.batcher(tokens=16)
    gone, other, waiting = add(small, batcher, LONG, replace(LONG, max_tokens=40), chat("word " * 400, 5))
    for _ in range(20):
        batcher.step()
    written = len(gone.answers[0].tokens)
    batcher.remove(gone)
    batcher.remove(waiting)
    finish(batcher)
    assert len(gone.answers[0].tokens) == written
    assert not waiting.answers[0].tokens
    assert other.result().choices[0].completion_tokens == 40


def test_a_request_whose_long_history_is_being_read_can_be_removed(small: Generator) -> None:
    batcher = small.batcher(tokens=16)
    turns = (ChatMessage("user", "word " * 200), ChatMessage("assistant", "ok"), ChatMessage("user", "go on"))
    (gone,) = add(small, batcher, GenerationRequest(turns, temperature=0, max_tokens=3))
    batcher.step()
    batcher.remove(gone)
    assert not batcher.busy


def answers_joining_at_random(generator: Generator, requests: Sequence[GenerationRequest]) -> list[GenerationResult]:
    batcher = generator.batcher(tokens=128)
    draw = random.Random(7)
    pending = [generator.prepare(request) for request in requests]
    for request in pending:
        batcher.add(request)
        for _ in range(draw.randrange(4)):
            batcher.step()
    finish(batcher)
    return [request.result() for request in pending]


def test_answers_of_requests_that_come_and_go_are_those_given_alone() -> None:
    """Texts are equal, and so are log-probabilities within rounding; histories, lengths and kinds differ."""
    smol = Generator(load_model(real("smollm2-135m-instruct"), torch.float32, ATTENTION))
    shots = tuple((texts[0], label) for label, texts in REVIEWS.items())
    requests = [
        *(GenerationRequest(asked(text), temperature=0, schema=SCHEMA, logprobs=True) for text in TEXTS[:4]),
        *(GenerationRequest(asked(text, *shots), temperature=0, schema=SCHEMA, logprobs=True) for text in TEXTS[4:7]),
        *(chat(f"Tell me about {text}", tokens, logprobs=True) for text, tokens in zip(TEXTS, (9, 1, 5), strict=False)),
        replace(chat("A word about rain", 12), temperature=1.0, seed=3, n=2),
    ]
    random.Random(1).shuffle(requests)
    alone = [smol.complete([request])[0] for request in requests]
    for together, single in zip(answers_joining_at_random(smol, requests), alone, strict=True):
        assert [choice.text for choice in together.choices] == [choice.text for choice in single.choices]
        for ours, theirs in zip(together.choices, single.choices, strict=True):
            values = [token.logprob for token in theirs.logprobs]
            assert [token.logprob for token in ours.logprobs] == pytest.approx(values, abs=1e-3)


def test_rows_join_others_where_that_saves_a_pass(small: Generator) -> None:
    batcher = small.batcher()
    add(small, batcher, LONG)
    for _ in range(10):
        batcher.step()
    add(small, batcher, replace(LONG, max_tokens=100), GenerationRequest(asked("Late."), temperature=0, max_tokens=100))
    for _ in range(10):
        batcher.step()
    assert [len(rows.answers) for rows in batcher._running] == [3]


def test_one_failure_affects_no_other_request(small: Generator) -> None:
    def listen(progress: Progress) -> None:
        if progress.text:
            raise OSError("nobody listens")

    batcher = small.batcher()
    requests = [chat(text, 5) for text in ("Yes?", "No?", "Why?")]
    pending = add(small, batcher, requests[0], replace(requests[1], listener=listen), requests[2])
    finish(batcher)
    for request in (0, 2):
        assert pending[request].outcome() == small.complete([requests[request]])[0]
    assert isinstance(pending[1].outcome(), OSError)
