"""Advice on loss curves: known curves with known findings, and good curves that must not be criticised."""

import math
from itertools import pairwise
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewtune.finetuning.checkpoints import Checkpoint
from reviewtune.finetuning.loss_advice import advise, epoch_ends

EPOCH = 10  # steps


def curve(
    training: list[float], validation: list[float] | None = None, column: str = "full_valid_loss"
) -> pd.DataFrame:
    """Straight lines between these training losses, one per epoch's end, and a validation loss at each end."""
    rows: list[dict[str, Any]] = []
    for epoch, (begin, end) in enumerate(pairwise(training)):
        steps = range(1, EPOCH + 1)
        rows += [{"step": epoch * EPOCH + at, "train_loss": begin + (end - begin) * at / EPOCH} for at in steps]
        if validation:
            rows[-1][column] = validation[epoch]
    return pd.DataFrame(rows)


def kinds(table: pd.DataFrame, n_epochs: int = 3) -> list[str]:
    return [finding.kind for finding in advise(table, n_epochs=n_epochs)]


@pytest.mark.parametrize("column", ["full_valid_loss", "valid_loss"])
@pytest.mark.parametrize(
    ("training", "validation", "kind"),
    [
        ([2, 1, 0.5, 0.2], [0.9, 0.6, 0.7], "overfitting"),
        ([2, 1, 0.5, 0.2], [0.5, 0.7, 0.9], "overfitting"),
        ([2, 1, 0.5, 0.4], [0.9, 0.6, 0.599], "flat"),
        ([2, 1, 0.5, 0.4], [0.9, 0.6, 0.605], "flat"),
        ([2, 1, 0.5, 0.4], [0.9, 0.6, 0.4], "unfinished"),
        ([2, 1.98, 1.97, 1.96], [2, 2, 2], "stagnant"),
        ([2, 2.5, 3, 4], [2, 3, 4], "stagnant"),
    ],
)
def test_known_curves_get_the_known_advice(
    training: list[float], validation: list[float], kind: str, column: str
) -> None:
    assert kinds(curve(training, validation, column)) == [kind]


def test_a_good_curve_gets_no_advice() -> None:
    assert kinds(curve([2, 1, 0.5, 0.45], [0.9, 0.6, 0.58])) == []


def test_overfitting_names_the_better_epoch_and_its_model() -> None:
    table = curve([2, 1, 0.5, 0.2], [0.9, 0.6, 0.7])
    kept = [Checkpoint(step=step, model=f"ft:x:ckpt-step-{step}") for step in (10, 20, 30)]
    (finding,) = advise(table, n_epochs=3, multiplier=2.0, checkpoints=kept)
    for part in ("epoch 2", "ft:x:ckpt-step-20", "n_epochs=2", "more data", "learning_rate_multiplier (2 now)"):
        assert part in finding.do
    (finding,) = advise(table, n_epochs=3, checkpoints=kept[2:])
    assert "was not kept" in finding.do


def test_a_loss_that_is_not_a_number_is_reported_as_divergence() -> None:
    table = curve([2, 1, 0.5, 0.2])
    for nothing in (math.nan, math.inf):
        table.loc[table["step"] > 12, "train_loss"] = nothing
        (finding,) = advise(table, n_epochs=3)
        assert (finding.kind, "step 12" in finding.seen) == ("diverged", True)


def test_a_missing_validation_loss_is_reported() -> None:
    assert kinds(curve([2, 1, 0.5, 0.2])) == ["no_validation"]


def test_a_curve_that_is_too_short_gets_no_advice() -> None:
    assert kinds(curve([2, 3], [2])[:3]) == []
    assert kinds(pd.DataFrame({"step": [], "train_loss": []})) == []


def test_the_validation_loss_of_batches_is_averaged_per_epoch() -> None:
    table = curve([2, 1, 0.5])
    table["valid_loss"] = [1.0] * 5 + [3.0] * 5 + [4.0] * 10
    assert [(end.epoch, end.step, end.validation) for end in epoch_ends(table, 2)] == [(1, 10, 2.0), (2, 20, 4.0)]


@given(
    st.lists(st.floats(0.5, 0.9), min_size=2, max_size=8),
    st.lists(st.floats(0.5, 1), min_size=8, max_size=8),
    st.floats(0.1, 100),
)
def test_losses_that_only_fall_are_never_called_overfitting(
    falls: list[float], validation_falls: list[float], scale: float
) -> None:
    training, validation = [scale], [scale]
    for fall, validation_fall in zip(falls, validation_falls, strict=False):
        training.append(training[-1] * fall)
        validation.append(validation[-1] * validation_fall)
    names = kinds(curve(training, validation[1:]), len(falls))
    assert not {"overfitting", "stagnant", "diverged", "no_validation"} & set(names)
