"""The command `reviewtune check-data`: read, examine, write what was wished for, say what was found."""

import json
import os
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import typer

from reviewtune.core.atomic_files import read_json, write_text
from reviewtune.core.config import DataConfig
from reviewtune.core.config_loading import load_params
from reviewtune.core.progress import TerminalProgress
from reviewtune.core.project import project_root
from reviewtune.data.reviews import sha256
from reviewtune.data_check import html_report
from reviewtune.data_check.checks import Level
from reviewtune.data_check.examine import SIMILARITY, Diagnosis, examine, write_masked
from reviewtune.data_check.label_errors import COLUMNS
from reviewtune.data_check.labelled_file import LabelledFile, data_for, read
from reviewtune.data_check.learning_curve import Curve
from reviewtune.data_check.training_checks import AUTO_EPOCHS
from reviewtune.errors import DataError

REFUSED = ("format", "labels", "conflicts")  # checks whose problems stop the pipeline
SIGNS: dict[Level, tuple[str, str]] = {
    "problem": ("red", "problem"),
    "notice": ("yellow", "look"),
    "fine": ("green", "fine"),
    "unknown": ("dim", "unknown"),
}


@dataclass(frozen=True)
class Wishes:
    """The command's options; None and False are what was not wished for."""

    columns: tuple[str | None, str | None, str | None]  # text, label, second label
    out: Path | None
    label_errors: Path | None
    mask: Path | None
    as_json: bool
    finetune: bool
    yes: bool


def check_data(path: Path, name: str | None, wishes: Wishes) -> None:
    """Examine a file and write the files that were wished for.

    Raises:
        DataError: the file cannot be read, a wished file would overwrite something, or the pipeline would refuse it.
    """
    root = project_root()
    _refuse_bad_targets(path, wishes)
    data = data_for(path, name, root / "conf") if name or (root / "conf").exists() else None
    text, label, second = wishes.columns
    file = read(path, data, text_column=text, label_column=label, second_label_column=second)
    tuned = _tuned(file, data, root, agreed=wishes.yes) if wishes.finetune else None
    reports = Path(os.path.relpath(root / "reports"))
    diagnosis = examine(file, reports=reports, similarity=SIMILARITY, n_epochs=_epochs(root), tuned=tuned)
    written = _write(diagnosis, wishes)
    if wishes.as_json:
        print(json.dumps(diagnosis.as_json(), indent=2, ensure_ascii=True))
    else:
        _show(diagnosis)
    for line in written:
        print(line, file=sys.stderr)
    _refuse(diagnosis)


def _tuned(file: LabelledFile, data: DataConfig | None, root: Path, *, agreed: bool) -> Curve | None:
    """The fine-tune's learning curve, after the user has seen what it takes; None when that was too much."""
    from reviewtune.data_check import finetuned_curve

    config = load_params(root / "params.yaml")
    if data is None:
        data = config.data.model_copy(update={"labels": dict.fromkeys(file.labels, "-"), "language": file.language})
    elif data.name == config.data.name:
        data = config.data  # with the overrides of `dvc exp run`
    config = config.model_copy(update={"data": data.model_copy(update={"path": file.path})})
    planned = finetuned_curve.plan(file.table, config, root / ".work" / "check-data" / sha256(file.path)[:16])
    print(finetuned_curve.estimate(planned, config), file=sys.stderr)
    if not agreed and not sys.stdin.isatty():
        raise DataError("--finetune wants --yes where nobody can be asked; nothing was started")
    if not agreed and not typer.confirm("Start them?", err=True):
        return None
    with redirect_stdout(sys.stderr):  # what the jobs say on their way: standard output is the report's, or --json's
        return finetuned_curve.measure(planned, config, progress=TerminalProgress())


def _epochs(root: Path) -> int:
    """Of the job whose curve stands in reports/, as its record tells."""
    try:
        return int(read_json(root / "models" / "finetuned.json")["hyperparameters"]["n_epochs"])
    except (OSError, ValueError, KeyError, TypeError):  # check-data works outside a project, too
        return AUTO_EPOCHS


def _refuse_bad_targets(path: Path, wishes: Wishes) -> None:
    targets = [target for target in (wishes.out, wishes.label_errors, wishes.mask) if target]
    for target in targets:
        if target.resolve() == path.resolve():
            raise DataError(f"{target}: is the file to be checked; give what is written another name")
    if len({target.resolve() for target in targets}) < len(targets):
        raise DataError(f"{targets[0]}: --out, --label-errors and --mask want different files")
    if wishes.out:
        html_report.refuse_foreign(wishes.out, html_report.GENERATOR)
    if wishes.label_errors:
        html_report.refuse_foreign(wishes.label_errors, ",".join(COLUMNS))
    if wishes.mask and wishes.mask.exists():
        raise DataError(f"{wishes.mask}: is there already and is not overwritten; give --mask another name")


def _write(diagnosis: Diagnosis, wishes: Wishes) -> list[str]:
    said = []
    if wishes.out:
        html_report.write(diagnosis, wishes.out)
        said.append(f"report: {wishes.out}")
    if wishes.label_errors:
        write_text(diagnosis.suspects.to_csv(index=False, lineterminator="\n"), wishes.label_errors)
        said.append(f"likely label errors: {wishes.label_errors} ({len(diagnosis.suspects)} rows)")
    if wishes.mask:
        said.append(f"masked copy: {wishes.mask} ({write_masked(diagnosis.file, wishes.mask)} reviews changed)")
    return said


def _show(diagnosis: Diagnosis) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=str(diagnosis.file.path), title_justify="left", show_header=False, box=None, padding=(0, 1))
    for check in diagnosis.checks:
        colour, word = SIGNS[check.level]
        said = Text(check.says) if not check.do else Text.assemble(check.says, ("\n" + check.do, "italic dim"))
        table.add_row(Text(word, style=colour), Text(check.title, style="bold"), said)
    Console().print(table)


def _refuse(diagnosis: Diagnosis) -> None:
    if bad := [check for check in diagnosis.problems if check.name in REFUSED]:
        says = " ".join("; ".join(f"{check.title.lower()}: {check.says}" for check in bad).split())
        raise DataError(f"{diagnosis.file.path}: the pipeline would refuse this file: {says}")
