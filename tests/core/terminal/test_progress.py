"""Progress and the time left: what is printed is near the truth, or nothing is printed."""

import math
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reviewtune.core.terminal import progress
from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.core.terminal.time_left import Mark, Pace, in_words

FACTOR = 2.5  # as the module promises, if the pace stays the same
HOURS = 3600


def batches_of(*, parts: int, pause: float, first: float, size: int, jitter: list[float]) -> list[float]:
    """When each part ends: a first one that waits, then batches of `size` within a second, `pause` seconds apart."""
    ends: list[float] = []
    at = first
    while len(ends) < parts:
        at += pause * jitter[len(ends) % len(jitter)]
        ends += [at + min(pause, 1.0) * number / size for number in range(min(size, parts - len(ends)))]
        at = max(at, ends[-1])
    return ends


def shown(ends: list[float], every: float) -> list[tuple[float, float]]:
    """What is shown, and the truth, at every look at the work."""
    pace, looks, number = Pace(), [], 0
    for look in range(1, math.ceil(ends[-1] / every)):
        now = look * every
        while number < len(ends) and ends[number] <= now:
            number += 1
            pace.note(ends[number - 1], number)
        left = pace.seconds_left(len(ends), now)
        if left is not None:
            looks.append((left, ends[-1] - now))
    return looks


@settings(max_examples=300)
@given(
    parts=st.integers(1, 250),
    pause=st.sampled_from([0.05, 0.2, 1.0, 3.0, 20.0, 600.0]),
    first=st.sampled_from([0.0, 5.0, 50.0, 300.0]),
    size=st.sampled_from([1, 4, 16, 64]),
    jitter=st.lists(st.floats(0.8, 1.2), min_size=5, max_size=60),
)
def test_what_is_shown_is_near_the_truth(
    parts: int, pause: float, first: float, size: int, jitter: list[float]
) -> None:
    """Constant, with a slow first part, and in bursts as concurrent requests are answered."""
    ends = batches_of(parts=parts, pause=pause, first=first, size=size, jitter=jitter)
    for left, truth in shown(ends, every=max(1.0, pause / 7)):
        assert left > 0
        if in_words(left).startswith("less"):
            assert truth < 60 * FACTOR
        else:
            assert truth / FACTOR <= left <= truth * FACTOR


def test_steady_work_shows_an_estimate_most_of_the_time() -> None:
    ends = batches_of(parts=193, pause=0.5, first=30.0, size=1, jitter=[0.9, 1.1])
    assert len(shown(ends, every=1.0)) > 0.6 * (ends[-1] - ends[0])


@pytest.mark.parametrize(
    ("marks", "total"),
    [
        ([], 10),
        ([Mark(50.0, 3)], 193),  # the first answers wait for the model: no 3165 s
        ([Mark(800.0, 1)], 3),  # one slow job, two that an earlier command did: no 1593 s
        ([Mark(second, second) for second in range(5)], 100),  # too short
        ([Mark(10.0 * second, second) for second in range(20)], 2000),  # too far ahead
        ([Mark(t, n) for n, t in enumerate([1, 2, 3, 4, 5, 6, 7, 60, 120, 180], start=1)], 100),  # it became slower
        ([Mark(second, second) for second in range(20)], 20),  # all done
    ],
)
def test_what_cannot_be_trusted_is_not_shown(marks: list[Mark], total: int) -> None:
    now = marks[-1].time + 0.5 if marks else 0.0
    assert Pace(marks).seconds_left(total, now) is None


def test_after_a_long_silence_nothing_is_shown() -> None:
    pace = Pace(Mark(float(second), second) for second in range(60))
    assert pace.seconds_left(200, 60.0) == pytest.approx(140, rel=0.1)
    assert pace.seconds_left(200, 75.0) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (1, "less than 1 min left"),
        (44, "less than 1 min left"),
        (46, "about 1 min left"),
        (110, "about 2 min left"),
        (89 * 60, "about 89 min left"),
        (1.75 * HOURS, "about 1.8 h left"),
        (30 * HOURS, "about 30 h left"),
    ],
)
def test_words_round_honestly(seconds: float | None, words: str) -> None:
    assert in_words(seconds) == words


@given(st.floats(0.001, 1e6))
def test_work_that_remains_never_has_no_time_left(seconds: float) -> None:
    assert " 0" not in in_words(seconds)


class TestLogLines:
    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        now = [0.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        return now

    def lines(self, capsys: pytest.CaptureFixture[str]) -> list[str]:
        return capsys.readouterr().err.splitlines()

    def test_of_steady_work(self, clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
        with TerminalProgress().bar("asking", 193) as step:
            for _ in range(193):
                clock[0] += 1
                step(1)
        lines = self.lines(capsys)
        assert lines[0] == "asking: 15/193 in 15 s"  # 178 s ahead after 14 s: nobody can see so far
        assert lines[2] == "asking: 45/193 in 45 s, about 2 min left"
        assert lines[-1] == "asking: 193/193 in 193 s"

    def test_without_a_known_number_of_parts(self, clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
        with TerminalProgress().bar("fine-tuning", None) as step:
            clock[0] += progress.LOG_EVERY_SECONDS
            step(0, note="queued")
        assert self.lines(capsys) == ["fine-tuning: 15 s so far, queued"]

    def test_with_the_estimate_of_the_caller(self, clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
        with TerminalProgress().bar("sweep", 4) as step:
            for left in (math.inf, 300.0, 0.0):
                clock[0] += progress.LOG_EVERY_SECONDS
                step(1, left=left)
        assert self.lines(capsys) == [
            "sweep: 1/4 in 15 s",
            "sweep: 2/4 in 30 s, about 5 min left",
            "sweep: 3/4 in 45 s, less than 1 min left",
        ]


def test_a_note_with_brackets_is_shown_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Notes hold statuses and errors as servers write them."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    with TerminalProgress().bar("x", 1) as step:
        step(1, note="status [/b] [red]")
    assert "status [/b] [red]" in capsys.readouterr().err
