"""The reports of one model version as one MLflow run: each report is a step, so the UI draws them over time."""

from pathlib import Path

from reviewtune.core.config.config import TrackingConfig
from reviewtune.monitoring.report_file import Monitoring
from reviewtune.tracking.queries import find_runs
from reviewtune.tracking.runs import RunKey, RunRecord, open_run

LAST_FILE, REPORTS = "last_file_sha256", "reports"  # tags


def log_report(report: Monitoring, settings: TrackingConfig, files: tuple[Path, ...]) -> tuple[str, bool]:
    """Add the report to the run of its model version; the same file twice in a row is one step.

    Args:
        report: the report.
        settings: the section `tracking`.
        files: what to store with it.

    Returns:
        The run's id, and whether a step was added.

    Raises:
        TrackingError: the store does not answer.
    """
    key = _key(report.name, report.model_version)
    earlier = _run_of(settings, key)
    steps = int(earlier.tags.get(REPORTS, 0)) if earlier else 0
    if earlier and earlier.tags.get(LAST_FILE) == report.file_sha256:
        return earlier.id, False
    tags = {"model": report.model, "registered_version": report.model_version}
    name = f"monitoring {report.name} {report.model_version}"
    with open_run(settings, name=name, kind="monitoring", tags=tags, run_key=key) as run, run.together():
        run.metrics(_metrics(report), step=steps + 1)
        for file in files:
            run.artifact(file, f"report_{steps + 1:04d}")
        run.tags({LAST_FILE: report.file_sha256, REPORTS: steps + 1, "verdict": report.verdict})
    return run.id, True


def is_alarmed(settings: TrackingConfig, name: str, version: str) -> bool:
    """Whether the last report on this version of a registered model is an alarm; false without a report.

    Raises:
        TrackingError: the store does not answer.
    """
    run = _run_of(settings, _key(name, version))
    return run is not None and run.tags.get("verdict") == "alarm"


def _key(name: str, version: str) -> RunKey:
    return RunKey(f"monitoring-{name}-{version}", continues="any")


def _run_of(settings: TrackingConfig, key: RunKey) -> RunRecord | None:
    found = find_runs(settings, "tags.kind = 'monitoring'")
    return next((run for run in found if run.tags.get("run_key") == key.text), None)


def _metrics(report: Monitoring) -> dict[str, object]:
    groups = {test.group.replace(" ", "_"): test.effect for test in report.tests if test.name == test.group}
    estimate = report.accuracy.accuracy
    return {
        "alarms": len(report.alarms),
        "new_topics": len(report.topics),
        "reviews": report.compared,
        "estimated_accuracy": estimate.named("value") if estimate else None,
        **({"effect": groups} if groups else {}),
        "share": {row.label: row.new for row in report.labels},
    }
