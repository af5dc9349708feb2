"""Which of the old model's answers the new one is trained on: each in proportion to how likely it is to be right.

A training file of the protocol gives every row the same weight (a message's `weight` is 0 or 1). So an answer with the
weight w is taken with the probability w: the expected loss is that of the weighted rows, and no row is repeated, which
would make the model learn it by heart and cost as much again (cost-proportionate rejection sampling: Zadrozny, Langford
and Abe, ICDM 2003). The weight is the confidence, calibrated on the validation reviews, which people have labelled.
Answers below one half are more likely wrong than right and are left out. A labelled review, and an answer that a person
corrected, always counts once.
"""

from typing import NamedTuple

import pandas as pd

from reviewtune.analyzer.calibration import fit_calibration
from reviewtune.core.normalisation import normalise
from reviewtune.data.sides.review_key import KEY, as_fraction
from reviewtune.deployment.rebase.answers_file import ANSWER, CONFIDENCE, LABEL
from reviewtune.deployment.rebase.parity_file import Weighting

LEAST = 0.5
"""Least weight of an answer."""
HEX_DIGITS = 13
"""Digits of a review's hash that make its number in [0, 1): 52 bits, as many as a float has."""


class Weighed(NamedTuple):
    """The answers to train on.

    Args:
        rows: columns text, label.
        weighting: how the confidence is used.
        too_unsure: number of answers below LEAST.
        drawn_out: number of answers that were not taken by chance.
    """

    rows: pd.DataFrame
    weighting: Weighting
    too_unsure: int
    drawn_out: int


def weigh(answers: pd.DataFrame, validation: pd.DataFrame | None) -> Weighed:
    """Choose the answers to train on. Equal answers give an equal choice: the chance is in the hash of the review.

    Args:
        answers: rows of the answers' file.
        validation: the old model's answers to the validation reviews: columns label, predicted, confidence; None: not
            known.
    """
    usable = answers[answers[LABEL] != ""]
    weights, weighting = _weights(usable, validation)
    sure = weights >= LEAST
    taken = sure & ((usable[KEY].str[:HEX_DIGITS].map(as_fraction) < weights) | (weighting == "none"))
    rows = usable[taken][["text", LABEL]].reset_index(drop=True)
    return Weighed(rows, weighting, too_unsure=int((~sure).sum()), drawn_out=int((sure & ~taken).sum()))


def _weights(usable: pd.DataFrame, validation: pd.DataFrame | None) -> "tuple[pd.Series[float], Weighting]":
    """The weight of each answer in [0, 1]: 1 for one without a confidence, and for one that a person corrected."""
    confidence = pd.to_numeric(usable[CONFIDENCE], errors="coerce")
    if confidence.isna().all():
        return pd.Series(1.0, index=usable.index), "none"
    calibration = None
    if validation is not None and "confidence" in validation:
        right = (validation["label"] == validation["predicted"]).tolist()
        calibration = fit_calibration(validation["confidence"].astype(float).tolist(), right)
    known = confidence.clip(0, 1).map(calibration.of) if calibration else confidence.clip(0, 1)
    is_models = confidence.notna() & (usable[LABEL] == usable[ANSWER].map(normalise))
    return known.where(is_models, 1.0), "calibrated" if calibration else "uncalibrated"
