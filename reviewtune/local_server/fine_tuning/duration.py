"""Says within the first steps of a training how long it will take, if that is long, and which base model takes less."""

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

LONG = 20 * 60.0  # seconds; shorter trainings are not mentioned
STEPS = (6, 10)  # steps after which the length is estimated, from the first to the last one
SCORING = 0.3  # of the time that an example takes in a training step, for one that is only scored
LARGE = 2_700_000_000  # bytes of weights: five times those of SMALLER
SMALLER = "gemma-3-270m"


class DurationNotice:
    """Watches the steps of one training.

    Args:
        suggestion: what takes less time; empty if nothing does.
        held_out: validation examples per training example.
        slow_processor: whether the reason is a processor without AMX.
    """

    def __init__(self, suggestion: str, held_out: float, *, slow_processor: bool) -> None:
        self._suggestion, self._held_out, self._slow_processor = suggestion, held_out, slow_processor
        self._begun = time.time()
        self._ends: list[float] = []
        self._given = False

    def after(self, steps_left: int, at: float) -> str | None:
        """The notice, at most once, after a step that ended at this Unix time."""
        self._ends.append(at)
        if self._given or not STEPS[0] <= len(self._ends) <= STEPS[1]:
            return None
        seconds = estimated_seconds(self._begun, self._ends, steps_left, self._held_out)
        self._given = seconds > LONG
        return self._text(seconds) if self._given else None

    def _text(self, seconds: float) -> str:
        processor = ", whose processor has no AMX" if self._slow_processor else ""
        suggestion = f"; {self._suggestion}" if self._suggestion else ""
        return f"this training will take about {in_words(seconds)} on this machine{processor}{suggestion}"


def estimated_seconds(begun: float, ends: Sequence[float], steps_left: int, held_out: float) -> float:
    """Seconds from the begin of a training to its end.

    Args:
        begun: when it began.
        ends: when each of its first steps ended; the first one does one-time work, so its own length does not count.
        steps_left: steps after these.
        held_out: validation examples per training example; they are scored once per epoch, and some every ten steps.
    """
    pace = median(later - earlier for earlier, later in pairwise(ends))
    scoring = SCORING * (held_out + 0.1) if held_out else 0.0
    return ends[-1] - begun + steps_left * pace * (1 + scoring)


def in_words(seconds: float) -> str:
    """`43 minutes`, or `2.5 hours`."""
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def faster_base(folder: Path) -> str:
    """What takes less time than a training of this base model; empty if no base model of the catalogue does."""
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if size < LARGE:
        return ""
    return f"{SMALLER} takes far less time: dvc exp run -S provider.base_model={SMALLER}"
