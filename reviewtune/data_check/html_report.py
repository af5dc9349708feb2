"""The data report as one HTML file that opens offline: style and pictures inside, nothing fetched, nothing run."""

from functools import partial
from pathlib import Path
from typing import Any

from reviewtune.core.atomic_files import write_text
from reviewtune.data.personal_data import mask
from reviewtune.data_check import plots
from reviewtune.data_check.examine import Diagnosis
from reviewtune.errors import DataError

GENERATOR = '<meta name="generator" content="reviewtune check-data">'
FIRST_BYTES = 2_000


def page(diagnosis: Diagnosis) -> str:
    """The same bytes for the same diagnosis. Texts of reviews are escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("reviewtune.data_check", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = partial(_shown, language=diagnosis.file.language)
    report = diagnosis.as_json()
    return environment.get_template("report.html").render(
        report=report,
        checks={check["name"]: check for check in report["checks"]},
        pictures=_pictures({check.name: check.facts for check in diagnosis.checks}),
        generator=GENERATOR,
        counts={
            level: sum(c.level == level for c in diagnosis.checks) for level in ("problem", "notice", "fine", "unknown")
        },
        rows=diagnosis.file.rows,
    )


def write(diagnosis: Diagnosis, target: Path) -> None:
    """Raises DataError rather than replace a file that no check-data wrote."""
    refuse_foreign(target, GENERATOR)
    write_text(page(diagnosis), target)


def refuse_foreign(target: Path, mark: str) -> None:
    """Raises DataError when `target` exists and its beginning lacks our mark."""
    if not target.exists():
        return
    with target.open("rb") as file:
        beginning = file.read(FIRST_BYTES).decode(errors="replace")
    if mark not in beginning:
        raise DataError(f"{target}: is there already and was not written by check-data; give another name")


def _shown(text: str, size: int, language: str) -> str:
    """A review for the page: masked, so that the page can be passed on, and shortened."""
    masked = mask(text, language)
    return masked if len(masked) <= size else masked[:size].rstrip() + " …"


def _pictures(facts: dict[str, dict[str, Any]]) -> dict[str, str]:
    drawn = {"lengths": plots.lengths(facts["lengths"]["all"])}
    if curves := facts["too_little_data"].get("curves"):
        drawn["too_little_data"] = plots.learning_curves(curves)
    if "steps" in facts["validation_loss"]:
        curve = facts["validation_loss"]
        drawn["validation_loss"] = plots.loss(curve["steps"], curve["loss"], curve["best_step"])
    return drawn
