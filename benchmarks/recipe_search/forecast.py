"""How long the remaining trainings will take, from those that are finished."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from .results import Job

GUESS = 5e-4  # seconds per unit of work, before anything was measured: smollm2-135m-instruct, two cores with AMX


class Size(NamedTuple):
    """UTF-8 bytes of a data set's training and held-out texts, prompts included."""

    train: int
    held_out: int


class Forecast(NamedTuple):
    """Seconds of all jobs together, and whether they rest on a measurement of each base model."""

    seconds: float
    measured: bool


def work(recipe: Mapping[str, Any], size: Size) -> float:
    """Work of a training, roughly: bytes read, where a trained layer costs three times a frozen one.

    Frozen layers are computed once. In every epoch the others are trained, and read the held-out texts for the loss.
    At the end the held-out texts are answered.
    """
    frozen, epochs = float(recipe["frozen_layers"]), int(recipe["n_epochs"])
    upper = (1 - frozen) * epochs * (3 * size.train + size.held_out)
    return frozen * (size.train + size.held_out) + upper + size.held_out


def forecast(
    jobs: Sequence[Job],
    results: Sequence[dict[str, Any]],
    sizes: Mapping[tuple[str, str], Size],
    processor: str,
) -> Forecast:
    """Forecast the jobs' time.

    Args:
        jobs: those to run.
        results: finished ones, which give the seconds per unit of work of their base model and precision.
        sizes: by data set and prompt.
        processor: of this machine; results of another one do not count.
    """
    rates: dict[tuple[str, str], list[float]] = {}
    for result in results:
        size = sizes.get((result["data"], result["recipe"]["prompt"]))
        if size is not None and "whole_seconds" in result and result.get("processor") == processor:
            kind = result["base"], result["precision"]
            rates.setdefault(kind, []).append(result["whole_seconds"] / work(result["recipe"], size))
    seconds = sum(
        median(rates.get((job.base, job.precision), [GUESS])) * work(job.recipe, sizes[job.data, job.recipe["prompt"]])
        for job in jobs
    )
    return Forecast(seconds, all((job.base, job.precision) in rates for job in jobs))
