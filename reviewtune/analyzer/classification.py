"""What an application learns about one review: its label, how sure that is, and which model said so."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Classification:
    """The label of a review; if it has none, `label` is None and `why` is the reason.

    Attributes:
        label: one of the labels of the data set; None: the review has no label.
        confidence: the share of answers like this one that are right, in [0, 1], as measured on the validation
            reviews; None: the model returns no confidence, or it was never calibrated.
        sure: whether the confidence reaches the threshold for the wanted accuracy. False if there is no confidence or
            no threshold: then a person should look.
        model: the name of the model that answered; None: no model answered.
        version: the version of the served model, as of the registry or of its folder; None: it is not a served model.
        why: the reason why there is no label; None if there is one.
    """

    label: str | None
    confidence: float | None = None
    sure: bool = False
    model: str | None = None
    version: str | None = None
    why: str | None = None
