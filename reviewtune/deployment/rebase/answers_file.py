"""data/teacher/NAME.csv: the old model's answers to reviews without a label, kept as data with their source.

They outlive the old model and the answer cache. Correct a label there, or empty it, and the next `reviewtune rebase`
uses what the file says. A deleted row is written again if its answer is in the cache.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reviewtune.core.atomic_files import write_text
from reviewtune.core.formatting import counted
from reviewtune.core.normalisation import normalise
from reviewtune.core.project import ProjectPaths
from reviewtune.data.sides.review_key import KEY
from reviewtune.data.tables import read_rows
from reviewtune.errors import DataError
from reviewtune.evaluation.subject import ModelSubject
from reviewtune.providers.address import address_of

LABEL, ANSWER, CONFIDENCE, SOURCE, WHY = "label", "model_label", "confidence", "label_source", "why"
COLUMNS = (KEY, "text", LABEL, ANSWER, CONFIDENCE, SOURCE, WHY)
"""`label` may be corrected; `model_label` is what the model said, and `confidence` belongs to that."""
DIGITS = 8  # of the hash in a file's name


@dataclass(frozen=True)
class AnswersFile:
    """The file of one old model's answers.

    Args:
        path: the CSV.
        source: the value of its column label_source, such as "teacher ft:... (openai)".
        labels: those that its rows may have.
    """

    path: Path
    source: str
    labels: tuple[str, ...]

    def read(self) -> pd.DataFrame:
        """Its rows as text; none if there is no file. In files of older versions, no label counts as corrected.

        Raises:
            DataError: it lacks a column, or a label is not in the list.
        """
        if not self.path.exists():
            return pd.DataFrame(columns=list(COLUMNS), dtype=str)
        required = [name for name in COLUMNS if name != ANSWER]
        rows = read_rows(self.path, required, hint="restore the file, or delete it to ask again")
        for row in rows:
            if (label := normalise(row.cells[LABEL])) not in (*self.labels, ""):
                raise DataError(
                    f"{self.path} line {row.line}: '{label}' is not one of {counted(len(self.labels), 'label')}; "
                    "correct it, or leave it empty"
                )
        cells = [{ANSWER: row.cells[LABEL], **row.cells, LABEL: normalise(row.cells[LABEL])} for row in rows]
        return pd.DataFrame(cells, columns=list(COLUMNS), dtype=str)

    def write(self, rows: pd.DataFrame) -> None:
        """Replace the file in one step; rows are sorted by their hash, so equal rows give equal bytes."""
        table = rows[list(COLUMNS)].sort_values(KEY)
        write_text(table.to_csv(index=False, lineterminator="\n"), self.path)


def answers_file(subject: ModelSubject, reviews: Path, root: Path) -> AnswersFile:
    """The file for a model's answers to a file of reviews; another model, prompt or address has another one."""
    identity = [address_of(subject.provider), subject.model, subject.prompt.fingerprint]
    digest = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:DIGITS]
    return AnswersFile(
        path=ProjectPaths(root).teacher_answers / f"{reviews.stem}-{digest}.csv",
        source=f"teacher {subject.model} ({subject.provider.kind})",
        labels=tuple(subject.prompt.labels),
    )
