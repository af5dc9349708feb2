"""The command `reviewtune check-data`: read the file, run the checks, write the requested files, print the results."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import typer

from reviewtune.core.atomic_files import read_json
from reviewtune.core.config.config import Config
from reviewtune.core.config.data import DataConfig
from reviewtune.core.config.loading import load_params
from reviewtune.core.folders import using
from reviewtune.core.formatting import counted
from reviewtune.core.html_page import refuse_foreign
from reviewtune.core.outputs import Output
from reviewtune.core.project import ProjectPaths, project_root
from reviewtune.core.terminal.progress import Progress, TerminalProgress
from reviewtune.data.reviews import sha256
from reviewtune.data_check import html_report
from reviewtune.data_check.checks import Level
from reviewtune.data_check.examine import SIMILARITY, DataCheck, examine, refuse_unusable
from reviewtune.data_check.label_errors import COLUMNS, to_table
from reviewtune.data_check.labelled_file import LabelledFile, data_for, read
from reviewtune.data_check.learning_curve import Curve
from reviewtune.data_check.masked_copy import refuse_existing, write_masked
from reviewtune.data_check.training_checks import AUTO_EPOCHS
from reviewtune.errors import DataError

SIGNS: dict[Level, tuple[str, str]] = {
    "problem": ("red", "problem"),
    "notice": ("yellow", "look"),
    "fine": ("green", "fine"),
    "unknown": ("dim", "unknown"),
}


@dataclass(frozen=True)
class CheckDataOptions:
    """The command's options. None and False mean that an option was not given."""

    data: str | None = None  # a file of conf/data, by name
    text_column: str | None = None
    label_column: str | None = None
    second_label_column: str | None = None
    out: Path | None = None
    label_errors: Path | None = None
    mask: Path | None = None
    as_json: bool = False
    finetune: bool = False
    yes: bool = False


def check_data(path: Path, options: CheckDataOptions) -> None:
    """Check a file of labelled reviews. The results go to standard output, progress to standard error.

    Raises:
        ConfigError: params.yaml or conf/ is wrong.
        DataError: the file cannot be read, a requested file would overwrite another one, or the pipeline would refuse
            the checked file.
    """
    progress, paths = TerminalProgress(sys.stderr), ProjectPaths(project_root())
    targets = _targets(path, options)
    config = _project_config(paths)
    conf = paths.root / "conf"
    data = data_for(path, options.data, conf) if options.data or conf.exists() else None
    file = read(
        path,
        data,
        text_column=options.text_column,
        label_column=options.label_column,
        second_label_column=options.second_label_column,
    )
    curve = _finetuned_curve(file, data, paths, options, progress) if options.finetune else None
    check = examine(
        file,
        reports=Path(os.path.relpath(paths.reports)),
        similarity=config.split.similarity if config else SIMILARITY,
        config=_described(config, data, file) if config else None,
        frozen=paths.frozen_splits,
        n_epochs=_epochs(paths.model_record),
        finetuned=curve,
        progress=progress,
    )
    written = _write(check, targets)
    if options.as_json:
        print(json.dumps(check.as_json(), indent=2, ensure_ascii=True))
    else:
        _show(check, to_stderr=any(target.is_stdout for target in targets.all))
    for line in written:
        progress.message(line)
    refuse_unusable(check)


def _project_config(paths: ProjectPaths) -> Config | None:
    """The project's configuration; None outside a project, where check-data works too."""
    is_project = (paths.root / "conf").exists() and paths.params.exists()
    return load_params(paths.params) if is_project else None


def _described(config: Config, data: DataConfig | None, file: LabelledFile) -> Config:
    """The project's configuration for this file, whose labels are its own if conf/data does not describe it."""
    if data is None:
        data = config.data.model_copy(update={"labels": dict.fromkeys(file.labels, "-"), "language": file.language})
    elif data.name == config.data.name:
        data = config.data  # with the overrides of `dvc exp run`
    return config.model_copy(update={"data": data.model_copy(update={"path": file.path})})


def _finetuned_curve(
    file: LabelledFile, data: DataConfig | None, paths: ProjectPaths, options: CheckDataOptions, progress: Progress
) -> Curve | None:
    """The fine-tune's learning curve, after the user has seen the estimate; None if they decline."""
    from reviewtune.data_check import finetuned_curve

    config = _described(load_params(paths.params), data, file)
    folder = paths.work / "check-data" / sha256(file.path)[:16]
    with using(folder):  # so that `clean` leaves it alone
        planned = finetuned_curve.plan(file.table, config, folder, frozen=paths.frozen_splits)
        progress.message(finetuned_curve.estimate(planned, config))
        if not options.yes and not sys.stdin.isatty():
            raise DataError("--finetune needs --yes without a terminal to confirm on; nothing was started")
        if not options.yes and not typer.confirm("Start them?", err=True):
            return None
        return finetuned_curve.measure(planned, config, progress=progress)


def _epochs(record: Path) -> int:
    """Epochs of the job whose loss curve is in reports/, from the record of its model."""
    try:
        return int(read_json(record)["hyperparameters"]["n_epochs"])
    except (OSError, ValueError, KeyError, TypeError):  # there may be no project
        return AUTO_EPOCHS


@dataclass(frozen=True)
class _Targets:
    """The checked outputs; None: not requested."""

    out: Output | None
    label_errors: Output | None
    mask: Output | None

    @property
    def all(self) -> list[Output]:
        return [target for target in (self.out, self.label_errors, self.mask) if target]


def _targets(path: Path, options: CheckDataOptions) -> _Targets:
    """Check where the command will write, before it works for minutes.

    Raises:
        DataError: an output cannot be written, or would overwrite another file.
    """
    targets = _Targets(
        out=_checked(options.out, "--out"),
        label_errors=_checked(options.label_errors, "--label-errors"),
        mask=_checked(options.mask, "--mask"),
    )
    for target in targets.all:
        target.refuse_input(path, "to check")
    places = ["-" if target.is_stdout else str(target.path.resolve()) for target in targets.all]
    if len({*places, *(["-"] if options.as_json else [])}) < len(places) + options.as_json:
        raise DataError(f"{places[0]}: --out, --label-errors, --mask and --json need different files")
    if targets.out:
        refuse_foreign(targets.out, html_report.GENERATOR, html_report.COMMAND)
    if targets.label_errors:
        refuse_foreign(targets.label_errors, ",".join(COLUMNS), html_report.COMMAND)
    if targets.mask:
        refuse_existing(targets.mask)
    return targets


def _checked(path: Path | None, option: str) -> Output | None:
    return Output.checked(path, option=option) if path else None


def _write(check: DataCheck, targets: _Targets) -> list[str]:
    """Write the requested files; returns a line on each."""
    lines = []
    if targets.out:
        html_report.write(check, targets.out)
        lines.append(f"report: {targets.out.path}")
    if targets.label_errors:
        targets.label_errors.write_text(to_table(check.label_errors).to_csv(index=False, lineterminator="\n"))
        lines.append(f"likely label errors: {targets.label_errors.path} ({counted(len(check.label_errors), 'row')})")
    if targets.mask:
        changed = counted(write_masked(check.file, targets.mask), "review")
        lines.append(f"masked copy: {targets.mask.path} ({changed} changed)")
    return lines


def _show(check: DataCheck, *, to_stderr: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    from reviewtune.core.terminal.tables import FittedTable

    table = FittedTable("", "", "", title=str(check.file.path), header=False)
    for result in check.results:
        colour, word = SIGNS[result.level]
        finding = Text.assemble(result.says, (f"\n{result.do}" if result.do else "", "italic dim"))
        table.add_row(Text(word, style=colour), Text(result.title, style="bold"), finding)
    Console(stderr=to_stderr).print(table)
