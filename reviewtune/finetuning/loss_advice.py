"""What a loss curve shows about a training, and what the usual fine-tuning guides advise.

Pure functions: a table in, findings out. The guide's troubleshooting in short: if the validation loss rises while the
training loss falls, the model overfits (fewer epochs, more data, a lower learning rate, an earlier checkpoint); if the
training loss does not fall, the data or the learning rate are wrong.

Source: https://platform.openai.com/docs/guides/supervised-fine-tuning
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import pandas as pd

if TYPE_CHECKING:
    from reviewtune.finetuning.checkpoints import Checkpoint  # at run time it would import the openai client

FindingKind = Literal["diverged", "stagnant", "overfitting", "flat", "unfinished", "no_validation"]

FEW_STEPS = 4  # with fewer, a curve shows nothing
LEARNED = 0.05  # with a first training loss below this, there is nothing to learn
FELL = 0.9  # the training loss fell if the last is below this share of the first
ROSE = 1.02  # the validation loss rose if the last is above this multiple of the best
STILL_FALLS = 0.95  # the validation loss still falls if the last is below this share of the one before


class Finding(NamedTuple):
    """One thing that a curve shows: `seen` in numbers, `do` as the next step."""

    kind: FindingKind
    seen: str
    do: str

    def __str__(self) -> str:
        return f"{self.seen}: {self.do}"


class EpochEnd(NamedTuple):
    """Losses at the end of an epoch; epochs are counted from 1."""

    epoch: int
    step: int
    training: float  # mean over the epoch's steps
    validation: float


def advise(
    curve: pd.DataFrame, *, n_epochs: int, multiplier: float = 1.0, checkpoints: "Sequence[Checkpoint]" = ()
) -> list[Finding]:
    """Diagnose a loss curve.

    Args:
        curve: columns step, train_loss and, where measured, valid_loss (one batch) and full_valid_loss (the whole set).
        n_epochs: number of epochs in the curve.
        multiplier: the job's learning rate multiplier.
        checkpoints: those that the provider kept.

    Returns:
        Findings, the most serious first; empty if the curve looks as it should.
    """
    if len(curve) < FEW_STEPS:
        return []
    training = pd.to_numeric(curve["train_loss"], errors="coerce").replace([math.inf, -math.inf], math.nan)
    if training.isna().iloc[-1] and training.notna().any():
        return [_diverged(int(curve["step"][training.notna()].max()), multiplier)]
    losses = training.dropna()
    width = max(1, len(losses) // 10)
    first, last = float(losses.head(width).mean()), float(losses.tail(width).mean())
    if last > first * FELL and first > LEARNED:
        return [_stagnant(first, last, multiplier)]
    ends = epoch_ends(curve, n_epochs)
    if not ends:
        return [_no_validation()] if not _measured(curve) else []
    finding = _of_validation(ends, multiplier, checkpoints)
    return [finding] if finding else []


def epoch_ends(curve: pd.DataFrame, n_epochs: int) -> list[EpochEnd]:
    """Losses by epoch; validation is the loss on the whole file if it was measured, else the mean of the batches."""
    numbers = curve.reindex(columns=["step", "train_loss", "valid_loss", "full_valid_loss"])
    numbers = numbers.apply(pd.to_numeric, errors="coerce")
    whole = numbers["full_valid_loss"].notna()
    # An epoch ends where the whole set was measured; without that, epochs are equally long.
    epoch = whole.shift(fill_value=False).cumsum() + 1 if whole.any() else _equal_epochs(numbers["step"], n_epochs)
    ends = []
    for number, part in numbers.groupby(epoch):
        validation = part["full_valid_loss"].dropna() if whole.any() else part["valid_loss"].dropna()
        if len(validation):
            ends.append(
                EpochEnd(
                    epoch=int(str(number)),
                    step=int(part["step"].iloc[-1]),
                    training=float(part["train_loss"].mean()),
                    validation=float(validation.mean()),
                )
            )
    return ends


def _equal_epochs(step: "pd.Series[float]", n_epochs: int) -> "pd.Series[int]":
    return ((step - 1) * max(n_epochs, 1) // step.max()).astype(int) + 1


def _measured(curve: pd.DataFrame) -> bool:
    return bool(curve.reindex(columns=["valid_loss", "full_valid_loss"]).notna().any(axis=None))


def _of_validation(ends: Sequence[EpochEnd], multiplier: float, checkpoints: "Sequence[Checkpoint]") -> Finding | None:
    if len(ends) < 2:
        return None
    best, before, last = min(ends, key=lambda end: end.validation), ends[-2], ends[-1]
    if last.validation > best.validation * ROSE:
        return _overfitting(best, last, multiplier, checkpoints) if last.training < best.training else None
    if last.validation < before.validation * STILL_FALLS:
        seen = f"the validation loss still falls in the last epoch ({before.validation:.3f} to {last.validation:.3f})"
        return Finding("unfinished", seen, f"one or two more epochs may help (n_epochs={last.epoch + 1})")
    if last.validation > before.validation / ROSE:
        seen = f"the validation loss stopped falling after epoch {before.epoch} "
        seen += f"({before.validation:.3f}, then {last.validation:.3f})"
        return Finding("flat", seen, f"n_epochs={before.epoch} is enough, more epochs do not help; more data may help")
    return None


def _overfitting(best: EpochEnd, last: EpochEnd, multiplier: float, checkpoints: "Sequence[Checkpoint]") -> Finding:
    seen = f"the validation loss rises from {best.validation:.3f} (epoch {best.epoch}) to {last.validation:.3f} "
    seen += f"(epoch {last.epoch}) while the training loss falls from {best.training:.3f} to {last.training:.3f}, "
    seen += "so the model memorises its examples"
    better = f"the checkpoint of epoch {best.epoch}"
    model = next((checkpoint.model for checkpoint in checkpoints if checkpoint.step == best.step), None)
    advice = f"use {better} ({model})" if model else f"{better} would be better but was not kept"
    do = f"{advice}; next time fewer epochs (n_epochs={best.epoch}), more data, "
    return Finding("overfitting", seen, do + f"or a lower learning_rate_multiplier ({multiplier:g} now)")


def _stagnant(first: float, last: float, multiplier: float) -> Finding:
    seen = f"the training loss does not fall ({first:.3f} in the first steps, {last:.3f} in the last)"
    do = "look for contradictory labels and for answers in more than one form, "
    do += f"then raise learning_rate_multiplier ({multiplier:g} now, try {multiplier * 2:g}) or n_epochs"
    if last > first / FELL:
        do = f"lower learning_rate_multiplier ({multiplier:g} now, try {multiplier / 2:g}) and look for broken examples"
        seen = f"the training loss rises ({first:.3f} in the first steps, {last:.3f} in the last)"
    return Finding("stagnant", seen, do)


def _diverged(step: int, multiplier: float) -> Finding:
    seen = f"the training loss is not a number after step {step}"
    return Finding("diverged", seen, f"lower learning_rate_multiplier ({multiplier:g} now, try {multiplier / 2:g})")


def _no_validation() -> Finding:
    return Finding(
        "no_validation",
        "there is no validation loss",
        "give the job a validation file; without one, overfitting cannot be noticed",
    )
