"""The report as one HTML file that loads nothing: the verdict first, then each test, the accuracy and the topics."""

from collections.abc import Callable

from reviewtune.core.formatting import counted, p_value, percent, with_interval
from reviewtune.core.html_page import generator, render
from reviewtune.monitoring.report_file import Monitoring
from reviewtune.monitoring.sentences import accuracy_line, compared_line, verdict_line

PAGE = "monitoring.html"
COMMAND = "monitor"


def to_html(report: Monitoring) -> str:
    """The page; the same text for the same report."""
    values = {
        "report": report,
        "generator": generator(COMMAND),
        "verdict": verdict_line(report),
        "compared": compared_line(report),
        "accuracy": accuracy_line(report),
        "level": "problem" if report.verdict == "alarm" else "fine",
    }
    return render("reviewtune.monitoring", "monitoring.html", values, FILTERS)


FILTERS: dict[str, Callable[..., str]] = {
    "percent": percent,
    "counted": counted,
    "interval": with_interval,
    "p": p_value,
}
