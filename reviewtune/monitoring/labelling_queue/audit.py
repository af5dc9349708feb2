"""How right the model was on the random sample of a queue, and the MLflow run that says so."""

from pathlib import Path
from typing import NamedTuple

from reviewtune.core.config.config import TrackingConfig
from reviewtune.core.formatting import with_interval
from reviewtune.evaluation.metrics.significance import Interval, weighted_proportion
from reviewtune.monitoring.labelling_queue.queue_record import QueueRecord

MADE_ON = "audit_queue_made_on"
"""Tag of a version: the date of the queue whose audit it has."""


class Audit(NamedTuple):
    """The accuracy of a queue's model.

    Attributes:
        accuracy: share of right labels; a review without a usable answer counts as wrong.
        labelled: reviews of the sample with a label of a person.
        asked: reviews of the sample that were asked for.
        effective: number of reviews that carry the information (Kish); below `labelled` if weights differ.
    """

    accuracy: Interval
    labelled: int
    asked: int
    effective: float

    @property
    def is_complete(self) -> bool:
        return self.labelled == self.asked


class Published(NamedTuple):
    """Where an audit was written.

    Attributes:
        run_id: its MLflow run.
        newer: date of a newer queue, whose audit the version keeps; empty: this audit is the version's.
    """

    run_id: str
    newer: str = ""


def audited(record: QueueRecord) -> Audit | None:
    """The accuracy by the labels that have come back; None without one."""
    sample = [row for row in record.rows if row.weight]
    done = [row for row in sample if row.label is not None]
    if not done:
        return None
    weights = [row.weight for row in done]
    accuracy = weighted_proportion([row.predicted == row.label for row in done], weights)
    effective = sum(weights) ** 2 / sum(weight**2 for weight in weights)
    return Audit(accuracy, len(done), len(sample), effective)


def publish(audit: Audit, record: QueueRecord, settings: TrackingConfig, file: Path) -> Published:
    """Write the audit into its MLflow run, which a later merge continues, and note it on the champion's version.

    A version keeps the audit of its newest queue: labels that come late say how right it was before.

    Args:
        audit: the accuracy.
        record: the queue.
        settings: the section `tracking`.
        file: the record's file, which is stored with the run.

    Raises:
        TrackingError: the store does not answer.
    """
    from reviewtune.tracking import registry
    from reviewtune.tracking.runs import RunKey, open_run

    found = registry.versions(settings, record.registered_name) if record.registered_version else []
    version = next((one for one in found if str(one.version) == record.registered_version), None)
    key = RunKey(f"audit:{record.queue}", continues="any")
    tags = {**_tags(record), "evaluation_run": version.run_id if version else None}
    with open_run(settings, name=f"audit {record.queue}", kind="audit", tags=tags, run_key=key) as run:
        with run.together():
            run.metrics(_metrics(audit))
        run.artifact(file)
    newer = version.tags.get(MADE_ON, "") if version else ""
    if newer > record.made_on:  # ISO 8601, so the later date is the larger text
        return Published(run.id, newer)
    if version:
        noted = f"{with_interval(audit.accuracy)}, {audit.labelled} of {audit.asked} reviews, queue {record.queue}"
        registry.set_tags(settings, version, {"audit": noted, "audit_run": run.id, MADE_ON: record.made_on})
    return Published(run.id)


def _tags(record: QueueRecord) -> dict[str, object]:
    return {
        "queue": record.queue,
        "data": record.data,
        "model": record.model,
        "registered_name": record.registered_name,
        "registered_version": record.registered_version,
        "audited_file": record.file,
        "audited_file_sha256": record.file_sha256,
        "audited_reviews": record.reviews,
    }


def _metrics(audit: Audit) -> dict[str, float]:
    counts = {"labelled": audit.labelled, "asked": audit.asked, "effective": audit.effective}
    return {**audit.accuracy.named("audit_accuracy"), **{f"audit_{name}": value for name, value in counts.items()}}
