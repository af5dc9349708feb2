"""`reviewtune check-data FILE`: everything that can be said about labelled reviews before money is spent on them."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reviewtune.core.progress import progress_bar
from reviewtune.data import personal_data
from reviewtune.data.reviews import read_rows, sha256
from reviewtune.data_check import checks, label_errors, learning_curve, training_checks
from reviewtune.data_check.checks import Check
from reviewtune.data_check.cross_validation import Material, material, probabilities
from reviewtune.data_check.labelled_file import HALF_PAIR, LabelledFile
from reviewtune.data_check.learning_curve import Curve
from reviewtune.errors import DataError

SIMILARITY = 0.9
SEED = 13
MIN_ROWS = 20  # below, out-of-fold answers say nothing
SHOWN_SUSPECTS = 50


@dataclass(frozen=True)
class Diagnosis:
    """All checks, in the order of the report, and the table of likely label errors (label_errors.COLUMNS)."""

    file: LabelledFile
    checks: tuple[Check, ...]
    suspects: pd.DataFrame

    @property
    def problems(self) -> list[Check]:
        return [check for check in self.checks if check.level == "problem"]

    def as_json(self) -> dict[str, Any]:
        named = {"file": str(self.file.path), "sha256": sha256(self.file.path), "level": checks.worst(self.checks)}
        return {**named, "checks": [asdict(check) for check in self.checks]}


def examine(
    file: LabelledFile,
    *,
    reports: Path,
    similarity: float,
    n_epochs: int = training_checks.AUTO_EPOCHS,
    tuned: Curve | None = None,
) -> Diagnosis:
    """Run every check.

    `n_epochs` is that of the job in `reports`; `tuned` is the fine-tune's own learning curve, where it was asked for.
    """
    with progress_bar("checking", total=3) as step:
        simple: list[Callable[[], Check]] = [
            lambda: checks.format_(file),
            lambda: checks.encoding(file),
            lambda: checks.labels(file),
            lambda: checks.lengths(file),
            lambda: checks.duplicates(file, similarity),
            lambda: checks.conflicts(file, similarity),
            lambda: checks.annotators(file, SEED),
        ]
        found = [one() for one in simple]
        step(1, note="cross-validation")
        suspected, suspects, curves, reason = _learned(file, similarity)
        step(1, note="languages and personal data")
        found += [suspected, checks.language_mix(file), checks.personal(file)]
        found += [
            training_checks.too_little_data([*curves, *([tuned] if tuned else [])], reason),
            training_checks.validation_loss(reports / "training_curve.csv", n_epochs),
            training_checks.worse_than_base(reports / "arms", seed=SEED),
        ]
        step(1)
    return Diagnosis(file, tuple(found), suspects)


def write_masked(file: LabelledFile, target: Path) -> int:
    """A copy of the file whose reviews are masked; returns how many changed.

    Raises:
        DataError: `target` exists, or a line of JSONL cannot be read.
    """
    language = file.language
    text, changed = _masked_csv(file, language) if file.kind == "csv" else _masked_chat(file, language)
    try:
        with target.open("x", encoding="utf-8", newline="") as out:
            out.write(text)
    except FileExistsError as error:
        raise DataError(f"{target}: is there already and is not overwritten; give --mask another name") from error
    return changed


def _masked_csv(file: LabelledFile, language: str) -> tuple[str, int]:
    rows = read_rows(file.path, [file.text_column])
    masked = [
        {**row.cells, file.text_column: personal_data.mask(row.cells[file.text_column], language)} for row in rows
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0].cells), lineterminator="\n")
    writer.writeheader()
    writer.writerows(masked)
    return out.getvalue(), sum(new != row.cells for new, row in zip(masked, rows, strict=True))


def _masked_chat(file: LabelledFile, language: str) -> tuple[str, int]:
    """Every message is masked: examples stand in system prompts, too."""
    lines, changed = [], 0
    for number, line in enumerate(file.raw.removesuffix("\n").split("\n"), start=1):
        try:
            example = json.loads(line)
            masked = [{**m, "content": personal_data.mask(m["content"], language)} for m in example["messages"]]
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            raise DataError(
                f"{file.path} line {number}: cannot be masked ({error}); mend or remove it first"
            ) from error
        changed += masked != example["messages"]
        lines.append(json.dumps({**example, "messages": masked}, ensure_ascii=False))
    text = "\n".join(lines) + "\n"
    return (text, changed) if not HALF_PAIR.search(text) else (text.encode("utf-8", "replace").decode(), changed)


def _learned(file: LabelledFile, similarity: float) -> tuple[Check, pd.DataFrame, list[Curve], str]:
    """What the linear baseline's out-of-fold answers show: likely label errors and the learning curve."""
    title, empty = "Likely label errors", pd.DataFrame(columns=list(label_errors.COLUMNS))
    try:
        if len(file.table) < MIN_ROWS:
            raise DataError(f"{len(file.table)} reviews, at least {MIN_ROWS} are needed")
        of = material(file.table["text"].tolist(), file.table["label"].tolist(), similarity=similarity, seed=SEED)
    except (DataError, ValueError) as error:
        do = "label more reviews; then this can be looked into"
        return Check("label_errors", title, "unknown", f"not looked for: {error}", do), empty, [], str(error)
    found = probabilities(of, seed=SEED)
    suspects = label_errors.suspects(of.labels, found)
    reviews = file.table.iloc[of.kept].reset_index(drop=True)
    table = label_errors.table(suspects, reviews, of.classes)
    right = float((found.argmax(axis=1) == of.labels).mean())
    sizes, answers = learning_curve.measure(of, seed=SEED)
    curve = learning_curve.judge("linear baseline", sizes, answers, of.labels, of.groups, seed=SEED)
    return _suspected(title, table, right, of), table, [curve], ""


def _suspected(title: str, table: pd.DataFrame, right: float, of: Material) -> Check:
    facts = {
        "accuracy": round(right, 4),
        "suspects": len(table),
        "reviews": len(of.labels),
        "rows": table.head(SHOWN_SUSPECTS).to_dict("records"),
    }
    says = f"{len(table)} of {len(of.labels)} labels look doubtful to linear models that did not see them"
    says += f" (these models are right on {right:.0%}, so many of the doubts are theirs)"
    if table.empty:
        return Check("label_errors", title, "fine", says, facts=facts)
    do = "read the list from the top, and stop when ten in a row are right"
    return Check("label_errors", title, "notice", says, do, facts)
