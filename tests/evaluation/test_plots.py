"""Pictures: equal bytes for equal input, a sensible size, no glyph missing. Whether they are pretty, people judge."""

import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reviewtune.errors import DataError
from reviewtune.evaluation import plots as evaluation_plots
from reviewtune.evaluation.metrics.classification import INVALID, Scores, per_label_table, score
from reviewtune.evaluation.metrics.significance import proportion
from reviewtune.evaluation.plots import ArmPoint
from reviewtune.finetuning.loss_plot import training_curve
from reviewtune.finetuning.model_record import picture_of

LABELS = [f"label_{number}" for number in range(11)]
POINTS = [
    ArmPoint("linear", "linear", proportion(330, 440), None),
    ArmPoint("zero_shot", "prompt", proportion(250, 440), 0.035),
    ArmPoint("finetuned", "finetuned", proportion(385, 440), 0.07),
]


def scores_of(labels: list[str], *, unusable: bool = True) -> Scores:
    truth = labels * 4
    shifted = labels * 3 + labels[1:] + [INVALID if unusable else labels[0]]
    return score(truth, shifted, labels=labels)


def curve() -> pd.DataFrame:
    steps = np.arange(1, 101)
    table = pd.DataFrame({"step": steps, "train_loss": 2 / steps, "valid_loss": np.nan, "full_valid_loss": np.nan})
    table.loc[table["step"] % 10 == 0, "valid_loss"] = 0.3
    table.loc[table["step"] % 50 == 0, "full_valid_loss"] = 0.25
    return table


PICTURES: dict[str, Callable[[], bytes]] = {
    "confusion": lambda: evaluation_plots.confusion_matrix(scores_of(LABELS), "finetuned"),
    "confusion without unusable": lambda: evaluation_plots.confusion_matrix(
        scores_of(LABELS, unusable=False), "finetuned"
    ),
    "confusion of two": lambda: evaluation_plots.confusion_matrix(scores_of(["no", "yes"]), "finetuned"),
    "curve": lambda: training_curve(curve(), 100),
    "curve of training alone": lambda: training_curve(curve()[["step", "train_loss"]]),
    "curve of nothing": lambda: training_curve(pd.DataFrame()),
    "bars": lambda: evaluation_plots.accuracy_bars(POINTS),
    "cost": lambda: evaluation_plots.accuracy_against_cost(POINTS),
    "cost where nothing is priced": lambda: evaluation_plots.accuracy_against_cost(POINTS[:1]),
    "labels": lambda: evaluation_plots.per_label_f1({"finetuned": per_label_table(scores_of(LABELS))}),
}


def size(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the PNG header."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_the_same_bytes_again(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = PICTURES[name](), PICTURES[name]()
    assert first == second
    width, height = size(first)
    assert 300 < width < 2500
    assert 200 < height < 2500
    assert b"Software" not in first


def test_many_labels_stay_readable() -> None:
    """At least 30 pixels a label, of which the text needs 12."""
    labels = [f"a_rather_long_label_{number}" for number in range(77)]
    width, height = size(evaluation_plots.confusion_matrix(scores_of(labels), "banking"))
    assert min(width, height) > 77 * 30


def test_the_unusable_column_is_there_only_when_needed() -> None:
    with_column, without = (size(PICTURES[name]()) for name in ("confusion", "confusion without unusable"))
    assert with_column[0] != without[0]


def test_other_input_is_another_picture() -> None:
    assert training_curve(curve(), 50) != training_curve(curve(), 100)


def test_a_curve_drawn_from_its_file_is_the_same_picture(tmp_path: Path) -> None:
    curve().to_csv(tmp_path / "curve.csv", index=False)
    assert picture_of(tmp_path / "curve.csv") == training_curve(curve(), int(curve()["step"].max()))


def test_no_arm_is_no_picture() -> None:
    for draw in (evaluation_plots.accuracy_bars, evaluation_plots.accuracy_against_cost):
        with pytest.raises(DataError, match="no arm"):
            draw([])
    with pytest.raises(DataError, match="no arm"):
        evaluation_plots.per_label_f1({})


def test_no_window_and_no_global_state() -> None:
    before = "matplotlib.pyplot" in sys.modules
    PICTURES["bars"]()
    assert ("matplotlib.pyplot" in sys.modules) == before
