"""The data report as one HTML file that opens offline: styles and plots are inside, and no script runs."""

from functools import partial

from reviewtune.core.html_page import generator, refuse_foreign, render
from reviewtune.core.outputs import Output
from reviewtune.data.personal_data import mask
from reviewtune.data_check import plots
from reviewtune.data_check.checks import CheckResult
from reviewtune.data_check.examine import DataCheck
from reviewtune.data_check.facts import Facts, LengthFacts, LossFacts
from reviewtune.data_check.learning_curve import CurveFacts

COMMAND = "check-data"
GENERATOR = generator(COMMAND)


def page(check: DataCheck) -> str:
    """The report; the same bytes for the same results. Texts of reviews are escaped and masked."""
    report = check.as_json()
    levels = [result.level for result in check.results]
    values = {
        "report": report,
        "checks": {result["name"]: result for result in report["checks"]},
        "plots": {result.name: plot for result in check.results if (plot := _plot(result))},
        "generator": GENERATOR,
        "counts": {level: levels.count(level) for level in ("problem", "notice", "fine", "unknown")},
        "rows": check.file.rows,
    }
    shown = partial(_shown, language=check.file.language)
    return render("reviewtune.data_check", "report.html", values, {"shown": shown})


def write(check: DataCheck, target: Output) -> None:
    """Write the report.

    Raises:
        DataError: `target` is a file that check-data did not write.
    """
    refuse_foreign(target, GENERATOR, COMMAND)
    target.write_text(page(check))


def _shown(text: str, size: int, language: str) -> str:
    """A review for the page: shortened, and masked, so that the page can be shared."""
    masked = mask(text, language)
    return masked if len(masked) <= size else masked[:size].rstrip() + " …"


def _plot(result: CheckResult[Facts]) -> str | None:
    """The plot of a check as SVG, if it has one."""
    match result.facts:
        case LengthFacts(all=sizes):
            return plots.lengths(sizes)
        case CurveFacts(curves=curves):
            return plots.learning_curves(curves)
        case LossFacts(steps=steps, loss=losses, best_step=best):
            return plots.loss(steps, losses, best)
        case _:
            return None
