"""Whether it is worth training again: new labels, an alarm, a low audit."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from reviewtune.core.config.config import Config
from reviewtune.core.formatting import counted, percent, with_interval
from reviewtune.core.project import ProjectPaths
from reviewtune.data.frozen_splits import divide
from reviewtune.data.reviews import prepare
from reviewtune.data.sides.frozen_file import read_frozen
from reviewtune.data.sides.side_names import Side
from reviewtune.errors import DataError
from reviewtune.evaluation.metrics.significance import Interval
from reviewtune.monitoring.history import is_alarmed
from reviewtune.monitoring.labelling_queue.raw_data import read_raw
from reviewtune.monitoring.report_file import REPORT, read_monitoring
from reviewtune.tracking.queries import run_or_none
from reviewtune.tracking.registry import RegisteredVersion


class Need(NamedTuple):
    """What speaks for a retraining.

    Attributes:
        new_labels: labelled reviews of the raw data that no promoted model knew.
        reasons: why it is worth it, one clause each; empty: it is not.
        why_not: the opposite, in one line; empty if there are reasons.
    """

    new_labels: int
    reasons: tuple[str, ...]
    why_not: str


def look(config: Config, root: Path, champion: RegisteredVersion | None) -> Need:
    """Compare what happened since the last promotion with the section `retraining`.

    Args:
        config: the project's configuration.
        root: the project's folder.
        champion: the model in use; None: there is none yet.

    Raises:
        DataError: the raw data or a report cannot be read.
        TrackingError: MLflow does not answer.
    """
    new, limits = count_new_labels(config, root), config.retraining
    if champion is None:
        return Need(new, ("there is no champion yet",), "")
    since = f"{counted(new, 'new label')} since the last promotion"
    occasions = tuple(filter(None, (_alarm(config, root, champion), _low_audit(config, champion))))
    reasons = occasions if new >= limits.least_labels else ()
    if limits.new_labels is not None and new >= limits.new_labels:
        reasons = (f"{since} (retraining.new_labels is {limits.new_labels})", *reasons)
    if reasons:
        return Need(new, reasons if since in reasons[0] else (*reasons, since), "")
    return Need(new, (), _why_not(since, occasions, config))


def count_new_labels(config: Config, root: Path) -> int:
    """The number of labelled reviews in the raw data that a model could learn from and whose side is not frozen.

    A promotion freezes the side of every review that the project had, so the others came later. Reviews that the
    split leaves out never get a side: they would be new for ever.
    """
    path = ProjectPaths(root).frozen_splits
    frozen = read_frozen(path) if path.exists() else {}
    labels = read_raw(config, root).labels
    new = {key for key, (_, label) in labels.items() if key not in frozen and label in config.data.labels}
    return len(_with_side(new, frozen, config, root))


def _with_side(keys: set[str], frozen: Mapping[str, Side], config: Config, root: Path) -> set[str]:
    """Those of these reviews that the split puts on a side."""
    if not keys:
        return keys
    try:
        division = divide(prepare(root / config.data.path, config.data).reviews, config, frozen)
    except DataError:  # the data check, which comes next, says what is wrong
        return keys
    return {key for key, side in zip(division.keys, division.sides, strict=True) if side and key in keys}


def _why_not(since: str, occasions: tuple[str, ...], config: Config) -> str:
    limits = config.retraining
    if occasions:
        return (
            f"{'; '.join(occasions)}, but only {since} (retraining.least_labels is {limits.least_labels}): there is "
            "too little to learn; `reviewtune queue FILE` chooses what to label"
        )
    enough = "never a reason" if limits.new_labels is None else f"{limits.new_labels} are a reason"
    return f"{since} ({enough}), no alarm and no low audit of the champion"


def _alarm(config: Config, root: Path, champion: RegisteredVersion) -> str:
    """The last report on the champion, if it is an alarm: the file's, otherwise that of MLflow."""
    if not config.retraining.alarm:
        return ""
    folder, version = ProjectPaths(root).reports / "monitoring", str(champion.version)
    if (folder / REPORT).exists():
        report = read_monitoring(folder)
        if (report.name, report.model_version) == (champion.name, version):
            return f"an alarm about version {version} ({report.file})" if report.verdict == "alarm" else ""
    return f"an alarm about version {version}" if is_alarmed(config.tracking, champion.name, version) else ""


def _low_audit(config: Config, champion: RegisteredVersion) -> str:
    """The champion's last audit, if its whole interval is below the limit."""
    limit, run_id = config.retraining.min_audit_accuracy, champion.tags.get("audit_run")
    run = run_or_none(config.tracking, run_id) if limit is not None and run_id else None
    if limit is None or run is None or "audit_accuracy_high" not in run.metrics:
        return ""
    accuracy = Interval(*(run.metrics[f"audit_accuracy{end}"] for end in ("", "_low", "_high")))
    if accuracy.high >= limit:
        return ""
    return f"the audit of version {champion.version}, {with_interval(accuracy)}, is below {percent(limit)}"
