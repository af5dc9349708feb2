"""The commands `queue` and `queue merge`: what they write and print."""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from reviewtune.analyzer.champion import RegistrySource
from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import load_params
from reviewtune.core.formatting import counted, with_counts, with_interval
from reviewtune.core.outputs import Output
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.data.reviews import text_column_of
from reviewtune.data.tables import XLSX, refuse_stream
from reviewtune.errors import ConfigError, DataError
from reviewtune.monitoring.labelling_queue.choose import NEW_TOPIC
from reviewtune.monitoring.labelling_queue.label_studio import interface
from reviewtune.monitoring.labelling_queue.make import Made, QueueOptions, make_queue
from reviewtune.monitoring.labelling_queue.merge import Merged, QueueAudit
from reviewtune.monitoring.labelling_queue.merge import merge as merge_file
from reviewtune.monitoring.labelling_queue.queue_file import JSON, to_file
from reviewtune.monitoring.labelling_queue.queue_record import record_path
from reviewtune.monitoring.recorded_reviews import is_recording, read_reviews, versions_of

ENDINGS = (".csv", XLSX, JSON)


def choose(file: Path, outs: Sequence[Path], options: QueueOptions) -> None:
    """Write the files to fill in, and print what was chosen and why.

    Raises:
        ConfigError: the sample is larger than the queue.
        DataError: a file cannot be read or written, or nothing can be chosen.
    """
    from reviewtune.analyzer.review_analyzer import ReviewAnalyzer
    from reviewtune.monitoring.labelling_queue.topics import new_topics

    if options.sample > options.size:
        raise ConfigError(f"--audit {options.sample} is more than --size {options.size}; lower it, or raise --size")
    outputs = [_output(path) for path in _with_interfaces(outs)]
    root = project_root()
    config = load_params(ProjectPaths(root).params)
    refuse_stream(file)
    column = text_column_of(read_reviews(file), options.text_column, config.data.columns.text)
    progress = TerminalProgress()
    model = ReviewAnalyzer(progress=progress, cache=True)
    progress.message(f"asking {model.model}{f' (the champion, version {model.version})' if model.version else ''}")
    versions = _versions(model.version, config, root) if is_recording(file) else None
    made = make_queue(file, column, options, config, root, model, new_topics, versions=versions)
    for output in outputs:
        output.write_bytes(_content(made, output.path, tuple(config.data.labels)))
    _print_made(made, outs, root)


def merge(file: Path, *, keep_columns: bool) -> None:
    """Merge, and print what was merged, what was not and why, the accuracy, and what to run next.

    The exit status is 1 if rows have problems.
    """
    root = project_root()
    config = load_params(ProjectPaths(root).params)
    merged = merge_file(file, config, root, keep_columns=keep_columns)
    print("\n".join(_lines(merged)))
    for fault in merged.checked.problems:
        print(f"{file} {fault}", file=sys.stderr)
    for one in merged.audits:
        print(_audit_line(one))
    print("\n".join(_next_steps(merged, file, config)))
    sys.exit(1 if merged.checked.problems else 0)


def _versions(version: str | None, config: Config, root: Path) -> set[str | None]:
    """What recordings call the model that answers: a service with `--served-model` knows its folder only."""
    if version is None:
        return {None}
    source = RegistrySource(config.tracking, config.registered_name, ProjectPaths(root).work / "champion")
    champion = source.look()
    if champion is None or champion.version != version:  # it changed a moment ago
        return {version}
    return {version, *versions_of(source.fetch(version), version)}


def _with_interfaces(outs: Sequence[Path]) -> list[Path]:
    """The files to write: those that were named, and the labelling interface next to each .json."""
    return [place for path in outs for place in _places(path)]


def _places(path: Path) -> list[Path]:
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"--out {path}: its name must end in {', '.join(ENDINGS)}, which decides on the format")
    return [path, _interface_path(path)] if path.suffix.lower() == JSON else [path]


def _interface_path(path: Path) -> Path:
    return path.with_suffix(".xml")


def _output(path: Path) -> Output:
    output = Output.checked(path)
    if output.replaces_a_file:
        raise DataError(f"--out {path}: exists already and may hold labels; name another file, or move it away")
    return output


def _content(made: Made, path: Path, labels: Sequence[str]) -> bytes:
    if path.suffix.lower() == ".xml":
        return interface(labels).encode()
    return to_file(made.record, made.texts, labels, path)


def _print_made(made: Made, outs: Sequence[Path], root: Path) -> None:
    record = made.record
    reasons = Counter(row.why.partition(":")[0] for row in record.rows)
    topics = Counter(row.why for row in record.rows if row.why.startswith(f"{NEW_TOPIC}:"))
    drawn = sum(row.weight for row in record.rows)
    print(f"{counted(len(record.rows), 'review')} to label of {record.reviews:,}: {with_counts(reasons)}")
    if drawn:
        print(
            f"audit: a random sample of {counted(drawn, 'review')}, for the accuracy of {record.model} on these reviews"
        )
    for topic, count in topics.items():
        print(f"{topic} ({counted(count, 'review')})")
    for note in made.notes:
        print(f"note: {note}")
    for path in outs:
        print(f"written to {path}")
        if path.suffix.lower() == JSON:
            print(f"written to {_interface_path(path)}, the labelling interface for Label Studio")
    print(f"{os.path.relpath(record_path(root, record.queue))} keeps what was asked: commit it")
    print(f"next: fill in column label, then `reviewtune queue merge {shlex.quote(str(outs[0]))}`")


def _lines(merged: Merged) -> list[str]:
    checked, path = merged.checked, os.path.relpath(merged.path)
    lines = [f"{counted(len(checked.new), 'review')} appended to {path}"]
    if merged.new_columns:
        lines.append(f"columns {' and '.join(merged.new_columns)} added: each line of {path} changed this once")
    if checked.present:
        lines.append(f"{counted(len(checked.present), 'review')} in {path} already, with the same label")
    if checked.unlabelled:
        rows = ", ".join(map(str, checked.unlabelled))
        lines.append(f"{counted(len(checked.unlabelled), 'row')} without a label: line {rows}")
    if checked.problems:
        lines.append(f"{counted(len(checked.problems), 'row')} not merged:")
    return lines


def _audit_line(one: QueueAudit) -> str:
    record, audit = one.record, one.audit
    who = f"{record.registered_name} version {record.registered_version}" if record.registered_version else record.model
    done = "" if audit.is_complete else f" of {audit.asked}, the others have no label yet"
    effective = "" if round(audit.effective) == audit.labelled else f", which count as {audit.effective:.1f}"
    newer = one.published.newer
    kept = f"; the version keeps the audit of the queue of {newer}, which is newer" if newer else ""
    return (
        f"audit: {who} is right on {with_interval(audit.accuracy)} of the {record.reviews:,} reviews of {record.file} "
        f"({counted(audit.labelled, 'random review')}{done}{effective}); MLflow run {one.published.run_id[:12]}{kept}"
    )


def _next_steps(merged: Merged, file: Path, config: Config) -> list[str]:
    path = os.path.relpath(merged.path)
    steps = []
    if merged.checked.unlabelled or merged.checked.problems:
        steps.append(f"fill in or correct {file}, then the same command again: nothing is doubled")
    if merged.path.with_name(f"{merged.path.name}.dvc").exists():
        steps.append(f"`dvc add {shlex.quote(path)}`")
    if merged.checked.new or merged.checked.present:
        steps.append(f"commit {path} and data/queues")
        steps.append("`reviewtune retrain`, which trains with them and compares the result with the champion")
    return [f"next: {step}" for step in steps]
