"""The command `monitor`: what it prints and writes, and its exit status."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reviewtune.analyzer.champion import ChampionSource, FolderSource, RegistrySource
from reviewtune.analyzer.open_classifier import open_classifier
from reviewtune.analyzer.served_model import read_served_model
from reviewtune.core.atomic_files import write_text
from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_params
from reviewtune.core.formatting import counted, p_value
from reviewtune.core.outputs import refuse_bad_folder
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.core.terminal.progress import Progress, TerminalProgress
from reviewtune.errors import DataError

if TYPE_CHECKING:
    from reviewtune.monitoring.monitor import Watched
    from reviewtune.monitoring.report_file import Monitoring

ALARM = 3  # exit status
SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class MonitorOptions:
    """The command's options.

    Args:
        file: the new reviews.
        text_column, date_column: None: columns with usual names.
        sample: reviews to compare at most.
        out: folder for the report; None: reports/monitoring.
        served_model: folder of a served model; None: the champion.
        with_texts: show reviews of new topics.
        track: note the report in MLflow.
        as_json: print the report as JSON.
    """

    file: Path
    text_column: str | None = None
    date_column: str | None = None
    sample: int = 2_000
    out: Path | None = None
    served_model: Path | None = None
    with_texts: bool = True
    track: bool = True
    as_json: bool = False


def monitor(options: MonitorOptions) -> None:
    """Compare, write the report, print it; the exit status is ALARM after an alarm.

    Raises:
        DataError: the file cannot be read, or there is no model with a reference.
        ProviderError: the model cannot be asked.
    """
    from reviewtune.monitoring import monitor as monitoring
    from reviewtune.monitoring.new_reviews import ReadOptions, read_new_reviews
    from reviewtune.monitoring.page import PAGE
    from reviewtune.monitoring.report_file import REPORT

    paths = ProjectPaths(project_root())
    config = load_params(paths.params)
    out = options.out or paths.reports / "monitoring"
    refuse_bad_folder(out, (REPORT, PAGE))
    reading = ReadOptions(
        text_column=options.text_column,
        date_column=options.date_column,
        configured=config.data.columns.text,
        sample=options.sample,
    )
    progress = TerminalProgress(sys.stderr)
    new = read_new_reviews(options.file, reading)
    watched = _watched(options, config, paths, progress)
    report = monitoring.monitor(watched, new, with_texts=options.with_texts, progress=progress)
    written = _write(report, out)
    print(report.model_dump_json(indent=2) if options.as_json else "\n".join(_lines(report)))
    messages = sys.stderr if options.as_json else sys.stdout
    print(f"written: {', '.join(str(path) for path in written)}", file=messages)
    if options.track:
        print(_tracked(report, config, written), file=messages)
    sys.exit(ALARM if report.verdict == "alarm" else 0)


def _watched(options: MonitorOptions, config: Config, paths: ProjectPaths, progress: Progress) -> "Watched":
    """The model, and what promotion stored for it."""
    from reviewtune.deployment.reference import read_reference
    from reviewtune.monitoring.monitor import Watched
    from reviewtune.monitoring.recorded_reviews import versions_of

    source: ChampionSource = (
        FolderSource(options.served_model)
        if options.served_model
        else RegistrySource(config.tracking, config.registered_name, paths.work / "champion")
    )
    champion = source.look()
    if champion is None:
        raise DataError(f"{config.registered_name} has no champion to monitor yet: `reviewtune promote` makes one")
    folder = source.fetch(champion.version)
    reference = read_reference(folder)
    classifier = open_classifier(folder, version=champion.version, limits=config.evaluation, progress=progress)
    served, versions = read_served_model(folder), frozenset(versions_of(folder, champion.version))
    return Watched(served.name, champion.version, classifier, reference, served.config.data, versions)


def _write(report: "Monitoring", out: Path) -> tuple[Path, Path]:
    from reviewtune.monitoring.page import PAGE, to_html
    from reviewtune.monitoring.report_file import write_monitoring

    out.mkdir(parents=True, exist_ok=True)
    page = out / PAGE
    write_text(to_html(report), page)
    return write_monitoring(report, out), page


def _tracked(report: "Monitoring", config: Config, files: tuple[Path, ...]) -> str:
    from reviewtune.monitoring.history import log_report

    run_id, is_new = log_report(report, config.tracking, files)
    return f"MLflow run {run_id[:12]}: {'a new step' if is_new else 'this file is its last step already'}"


def _lines(report: "Monitoring") -> list[str]:
    from reviewtune.monitoring.sentences import accuracy_line, compared_line, verdict_line

    lines = [compared_line(report)]
    for test in report.alarms:
        what = f"{test.group}: {test.seen}"
        lines.append(f"  {what} ({test.effect_name} {test.effect:.2f}, adjusted p {p_value(test.p_adjusted)})")
    for topic in report.topics:
        lines.append(f"  new topic, {counted(topic.size, 'review')}: {', '.join(topic.words)}")
        lines += [f"    {text[:100]}" for text in topic.examples[:SHOWN]]
    notes = [f"note: {note}" for note in report.notes]
    return [*lines, accuracy_line(report), *notes, verdict_line(report)]
