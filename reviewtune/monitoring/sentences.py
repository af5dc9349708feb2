"""What the terminal and the page say about a report."""

from reviewtune.core.formatting import counted, listed, percent, with_interval
from reviewtune.monitoring.report_file import Monitoring

SHOWN = 5


def verdict_line(report: Monitoring) -> str:
    """The verdict with its reasons."""
    if not report.tests:
        return "calm, but nothing was tested"
    rate = f"if nothing changed, an alarm comes in at most {percent(report.error_rate)} of reports"
    if report.verdict == "calm":
        return f"calm: no significant change in {counted(len(report.tests), 'test')}; {rate}"
    return f"alarm: {listed([_name(test.group, test.name) for test in report.alarms], shown=SHOWN)}; {rate}"


def compared_line(report: Monitoring) -> str:
    """What was compared with what."""
    dates = f" from {report.first_date} to {report.last_date}" if report.first_date else ""
    new = f"{counted(report.compared, 'review')} of {report.file}{dates}"
    model = f"{report.name} version {report.model_version} ({report.model})"
    return f"{new}, compared with {counted(report.reference_reviews, 'test review')} of {model}"


def accuracy_line(report: Monitoring) -> str:
    """The estimated accuracy, and what it is worth."""
    found = report.accuracy
    before = f"; {with_interval(found.reference)} on the test reviews" if found.reference else ""
    if found.accuracy is None:
        return f"accuracy without labels: not known ({found.why}){before}"
    value = with_interval(found.accuracy)
    if found.status == "not reliable":
        return (
            f"accuracy without labels: not reliable, because {found.why}: label some of these reviews to know it; "
            f"it would be {value} if only the label mix had changed{before}"
        )
    return f"accuracy without labels: {value}, from {found.method}{before}"


def _name(group: str, name: str) -> str:
    return name if group == name else f"{group} {name}"
