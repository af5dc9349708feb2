"""What `reviewtune monitor` found: reports/monitoring/monitoring.json. Equal inputs give equal bytes."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from reviewtune.core.result_file import ResultFile, ResultPart, read_result, write_result
from reviewtune.evaluation.metrics.significance import Interval

REPORT = "monitoring.json"


class Test(ResultPart):
    """One statistical test. It is an alarm if it is significant among all tests and its effect is not tiny."""

    __test__ = False  # pytest takes it for a class of tests

    group: str = Field(description="what is compared, such as confidence; each group has the same share of the error")
    name: str = Field(description="the group, or what of the group was tested, such as a label")
    method: str = Field(description="name of the test")
    p: float = Field(description="p-value")
    p_adjusted: float = Field(description="p-value adjusted for all tests of the report (weighted Holm)")
    effect: float = Field(description="size of the change, as `effect_name` says")
    effect_name: str = Field(description="what the effect is, such as Cramer's V")
    least_effect: float = Field(description="smaller effects never raise an alarm")
    seen: str = Field(description="the change in words")
    is_alarm: bool = Field(description="p_adjusted below 0.05 and effect at least `least_effect`")


class EstimatedAccuracy(ResultPart):
    """The accuracy on the new reviews, estimated without their labels."""

    status: Literal["estimated", "not reliable", "not known"] = Field(
        description="not reliable: the texts changed in a way that no method without labels can follow; not known: "
        "there is nothing to estimate it from"
    )
    why: str = Field(description="the reason if the status is not `estimated`, otherwise empty")
    accuracy: Interval | None = Field(description="the estimate with its 95 % interval; null: not known")
    reference: Interval | None = Field(description="accuracy on the test reviews; null: not known")
    method: str = Field(description="from what it was estimated")
    label_mix: dict[str, float] = Field(description="estimated share of each true label in the new reviews")


class Topic(ResultPart):
    """A group of reviews that are alike, and more frequent in the new reviews than in the labelled ones."""

    size: int = Field(description="number of new reviews in it")
    known: int = Field(description="number of labelled reviews in it")
    p: float = Field(description="p-value, exact for the search over all groups")
    distance: float = Field(description="median cosine distance of its reviews to the nearest training review")
    usual_distance: float = Field(description="the same for validation and test reviews")
    words: tuple[str, ...] = Field(description="its typical words")
    examples: tuple[str, ...] = Field(description="its most typical reviews; empty with --no-texts")
    labels: dict[str, int] = Field(description="how the model labels them")


class LabelShare(ResultPart):
    """How frequent a label is."""

    label: str = Field(description="the label as the model gave it")
    reference: float = Field(description="share among the model's labels of the test reviews, in [0, 1]")
    new: float = Field(description="share among those of the new reviews, in [0, 1]")
    count: int = Field(description="number of new reviews")


class Monitoring(ResultFile):
    """The whole report."""

    verdict: Literal["calm", "alarm"] = Field(description="alarm: at least one test is an alarm")
    name: str = Field(description="name of the model in the registry")
    model_version: str = Field(description="its version")
    model: str = Field(description="the model's name")
    file: str = Field(description="name of the file with the new reviews")
    file_sha256: str = Field(description="SHA-256 of that file")
    reviews: int = Field(description="number of rows with content in the file")
    compared: int = Field(description="number of reviews that were compared: all, or a sample")
    reference_reviews: int = Field(description="number of test reviews that they were compared with")
    first_date: str | None = Field(description="date of the first compared review; null: no dates")
    last_date: str | None = Field(description="date of the last compared review; null: no dates")
    error_rate: float = Field(
        description="chance of any alarm if nothing changed, over all tests of this report: at most this"
    )
    tests: tuple[Test, ...] = Field(description="all tests, the alarms first")
    accuracy: EstimatedAccuracy = Field(description="accuracy estimated without labels")
    topics: tuple[Topic, ...] = Field(description="new topics, the most significant first")
    labels: tuple[LabelShare, ...] = Field(description="the label mix")
    notes: tuple[str, ...] = Field(description="what was sampled, skipped or could not be tested")

    @property
    def alarms(self) -> tuple[Test, ...]:
        return tuple(test for test in self.tests if test.is_alarm)


def read_monitoring(folder: Path) -> Monitoring:
    """Read the report in a folder.

    Raises:
        DataError: there is none, or it is damaged.
    """
    hint = "`reviewtune monitor FILE` writes it"
    return read_result(folder / REPORT, Monitoring, if_missing=hint, if_damaged=hint)


def write_monitoring(report: Monitoring, folder: Path) -> Path:
    """Write the report into an existing folder; returns its path."""
    path = folder / REPORT
    write_result(report, path)
    return path
