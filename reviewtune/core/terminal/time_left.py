"""Estimate the time that is left of work in many parts, or say nothing while no estimate can be trusted.

An estimate is given when the parts so far came at a steady pace for long enough, so that what is shown is within a
factor of 2.5 of the truth if the pace stays the same. The first part is left out, because it often waits for a model to
load; parts that come in bursts count by the seconds in which they came.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

LEAST_SECONDS = 10.0  # observed since the first part ended
LEAST_MARKS = 4  # seconds with ended parts, after the first of them
FURTHEST = 10.0  # times the observed seconds: nobody can see further ahead
STEADY = 1.5  # ratio between the pace of all parts and that of the newer half
SILENCE = 2.0  # times the longest pause so far: after that the pace has changed
NEAREST = 2.0  # times the longest pause so far: nearer to the end, the next pause decides


class Mark(NamedTuple):
    """How many parts were done at this time, in seconds since any fixed moment."""

    time: float
    done: int


class Pace:
    """The parts that ended so far.

    Args:
        marks: what is known beforehand, in any order.
    """

    def __init__(self, marks: Iterable[Mark] = ()) -> None:
        self._marks: list[Mark] = []
        for mark in sorted(marks):
            self.note(*mark)

    def note(self, time: float, done: int) -> None:
        """`done` parts are done at `time`, which is never before the time of an earlier call."""
        if self._marks and done <= self._marks[-1].done:
            return
        if self._marks and int(time) == int(self._marks[-1].time):
            self._marks.pop()  # one mark per second: answers to concurrent requests come in bursts
        self._marks.append(Mark(time, done))

    def seconds_left(self, total: int, now: float) -> float | None:
        """The seconds until all parts are done; None if that is not known yet.

        Args:
            total: the number of parts.
            now: on the clock of the marks.
        """
        if len(self._marks) <= LEAST_MARKS or total <= self._marks[-1].done:
            return None
        first, last = self._marks[0], self._marks[-1]
        seconds = last.time - first.time
        per_part, newest = _seconds_per_part(first, last), _seconds_per_part(self._middle(), last)
        left = (total - last.done) * per_part - (now - last.time)
        steady = max(per_part, newest) <= STEADY * min(per_part, newest)
        pause = self._longest_pause()
        silent = now - last.time > SILENCE * pause
        in_sight = NEAREST * pause <= left <= FURTHEST * seconds
        return left if seconds >= LEAST_SECONDS and steady and not silent and in_sight else None

    def _middle(self) -> Mark:
        """The last mark in the first half of the observed time."""
        first, last = self._marks[0], self._marks[-1]
        at = bisect_left(self._marks, ((first.time + last.time) / 2, 0))
        return self._marks[max(at - 1, 0)]

    def _longest_pause(self) -> float:
        pairs = zip(self._marks, self._marks[1:], strict=False)
        return max(later.time - earlier.time for earlier, later in pairs)


def _seconds_per_part(first: Mark, last: Mark) -> float:
    return (last.time - first.time) / (last.done - first.done)


def in_words(seconds: float | None) -> str:
    """`about 2 min left`, `less than 1 min left`; empty if nothing is known."""
    if seconds is None:
        return ""
    minutes = seconds / 60
    if minutes < 0.75:
        return "less than 1 min left"
    if minutes < 90:
        return f"about {max(1, round(minutes))} min left"
    return f"about {minutes / 60:.1f} h left" if minutes < 600 else f"about {round(minutes / 60)} h left"
