"""An axis of a chart: from values to positions in the drawing, and where its ticks are."""

import math
from dataclasses import dataclass

STEPS = (1, 2, 2.5, 5, 10)
LOG_FROM = 20  # times the smallest value: from there on a linear axis would press the small ones together


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` at positions from `start` to `end`, in pixels of the drawing."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """The position of a value; beyond the ends for one outside of the axis."""
        low, high, value = (self._scaled(number) for number in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values from low to high: about five, or 1, 2, 5, 10, ... times a power of ten."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
            return [value for value in values if self.low <= value <= self.high]
        step = _step((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        return [round(number * step, 12) for number in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


def share_axis(lowest: float, highest: float, start: float, end: float) -> Axis:
    """An axis of shares in [0, 1] that begins and ends at a multiple of 10 %, with at least 20 % between."""
    high = min(math.ceil(highest * 10 - 1e-9) / 10, 1.0)
    low = max(min(math.floor(lowest * 10 + 1e-9) / 10, high - 0.2), 0.0)
    return Axis(low, max(high, low + 0.2), start, end)


def cost_axis(costs: list[float], start: float, end: float) -> Axis:
    """An axis of costs with some room on both sides: from 0, or logarithmic if they differ widely."""
    least, most = min(costs, default=0.0), max(costs, default=0.0)
    if least > 0 and most > LOG_FROM * least:
        return Axis(least / 1.8, most * 1.8, start, end, logarithmic=True)
    return Axis(0.0, most * 1.15 or 1.0, start, end)


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in STEPS if step * power >= rough - 1e-12)
