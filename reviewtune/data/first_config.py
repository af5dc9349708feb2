"""A first conf/data/NAME.yaml from a table: which column is what, the labels with their counts, the language.

Everything is a guess from the cells, shown to the user. What a label means cannot be guessed and is left open.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import yaml

from reviewtune.core.config.types import TODO
from reviewtune.core.normalisation import normalise
from reviewtune.data.language_detection import main_languages
from reviewtune.data.reviews import MIN_ROWS_PER_LABEL, single_labels
from reviewtune.data.sides.side_names import side_of
from reviewtune.data.tables import Table
from reviewtune.errors import DataError

Role = Literal["text", "label", "second_label", "id", "split", "date", "other"]
OPTION = "name it with --{}-column"
DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}(?:[ T].*)?|\d{4}년.*")
NUMBER = re.compile(r"[-+]?\d[\d.,\s]*%?")
LABEL_NAME = re.compile(
    r"label|categor|kategor|topic|thema|theme|intent|issue|class|reason|grund|분류|라벨|레이블|카테고리|유형|주제", re.I
)
SECOND_NAME = re.compile(r"second|2|zweit|other|두\s?번째|이차", re.I)
ID_NAME = re.compile(r"\bid\b|_id\b|nr\b|\bno\b|num|ticket|key|번호|아이디", re.I)
MOST = 0.8  # share of the cells that decide what a column is
MOST_LABELS, MOST_SLICE_VALUES = 150, 20
LANGUAGE_SHARE = 0.1
LANGUAGE_SAMPLE = 2_000  # texts
COMMENT_COLUMN = 44


@dataclass(frozen=True)
class Column:
    """A column's cells that are not empty, normalised, and the number of rows."""

    name: str
    cells: tuple[str, ...]
    rows: int

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(self.cells)

    @property
    def is_date(self) -> bool:
        return self._mostly(DATE)

    @property
    def is_number(self) -> bool:
        return self._mostly(NUMBER)

    @property
    def is_prose(self) -> bool:
        """Texts of several words, most of them different."""
        words = sum(" " in cell for cell in self.cells)
        return not self.is_date and words >= MOST / 2 * len(self.cells) and len(self.counts) > len(self.cells) / 2

    @property
    def mean_length(self) -> float:
        return sum(map(len, self.cells)) / max(len(self.cells), 1)

    @property
    def is_repeated(self) -> bool:
        """A few values, each of them in several rows."""
        fills = len(self.cells) > self.rows / 2
        return fills and not self.is_date and 2 <= len(self.counts) <= min(MOST_LABELS, len(self.cells) / 2)

    @property
    def is_split(self) -> bool:
        """Only words for the sides of a split, test among them."""
        sides = {side_of(cell) for cell in self.counts}
        return len(sides) > 1 and "test" in sides and None not in sides

    @property
    def is_identity(self) -> bool:
        """A different value without spaces in every row; a number only if the column's name says so."""
        differs = len(self.counts) == self.rows and not any(" " in cell or len(cell) > 64 for cell in self.cells)
        return differs and not self.is_date and (not self.is_number or bool(ID_NAME.search(self.name)))

    def _mostly(self, pattern: re.Pattern[str]) -> bool:
        return bool(self.cells) and sum(bool(pattern.fullmatch(cell)) for cell in self.cells) >= MOST * len(self.cells)


class FirstConfig(NamedTuple):
    """A guess.

    Args:
        roles: what each column of the table is taken for.
        examples: a cell of each column; empty if it has none.
        labels: number of rows per label, the most frequent first.
        several_labels: number of rows whose cell holds several labels, which are not in `labels`.
        language: ISO 639-1 code, or several joined by +; empty if none could be detected.
        slices: columns that may be scored separately.
    """

    roles: dict[str, Role]
    examples: dict[str, str]
    labels: dict[str, int]
    several_labels: int
    language: str
    slices: tuple[str, ...]

    def column(self, role: Role) -> str | None:
        return next((name for name, taken in self.roles.items() if taken == role), None)


def guess(table: Table, *, text: str | None = None, label: str | None = None) -> FirstConfig:
    """Guess what the columns of a table are.

    Args:
        table: the user's table.
        text: the column with the reviews; None: the one with the longest texts.
        label: the column with the labels; None: one whose few values are repeated.

    Raises:
        DataError: the table is empty, or there is no such column.
    """
    if not table.columns:
        raise DataError(f"{table.path}: this file is empty; it needs a header and one review per row")
    table.require([name for name in (text, label) if name is not None], hint="choose one of them")
    columns = [_column(table, name) for name in table.columns]
    chosen_text = text or _text_column(table, [column for column in columns if column.name != label])
    rest = [column for column in columns if column.name != chosen_text]
    chosen_label = label or _label_column(table, rest)
    roles = _roles(columns, chosen_text, chosen_label)
    cells = next(column for column in columns if column.name == chosen_label).counts
    names = single_labels(cells)
    by_number = dict(sorted(((name, cells[name]) for name in names), key=lambda item: (-item[1], item[0])))
    texts = next(column.cells for column in columns if column.name == chosen_text)
    return FirstConfig(
        roles=roles,
        examples={column.name: next(iter(column.cells), "") for column in columns},
        labels=by_number,
        several_labels=cells.total() - sum(by_number.values()),
        language=main_languages(texts[:LANGUAGE_SAMPLE], least=LANGUAGE_SHARE),
        slices=tuple(_slices(rest, roles)),
    )


def to_yaml(first: FirstConfig, *, name: str, path: str) -> str:
    """The content of conf/data/NAME.yaml.

    Args:
        first: the guess.
        name: of the data set.
        path: of the table, relative to the project.
    """
    roles: tuple[Role, ...] = ("text", "label", "id", "second_label", "split")
    columns = [f"  {role}: {_scalar(column)}" for role in roles if (column := first.column(role))]
    possible = f"possible: {', '.join(first.slices)}" if first.slices else "columns to score separately"
    detection = "detected in the reviews" if first.language else "not detected: correct it"
    several = (
        [f"# {first.several_labels} rows have several labels; choose one for each"] if first.several_labels else []
    )
    lines = [
        "# A first description, written by `reviewtune init-data`: check it, and write what each label means.",
        f"name: {_scalar(name)}",
        f"path: {_scalar(path)}",
        _commented(f"language: {_scalar(first.language or 'en')}", detection),
        "columns:",
        *columns,
        _commented("slices: []", possible),
        *several,
        _commented("labels:", "the meanings go into the prompts"),
        *(_label_line(label, count) for label, count in first.labels.items()),
    ]
    return "\n".join(lines) + "\n"


def _column(table: Table, name: str) -> Column:
    cells = (normalise(row.cells[name]) for row in table.rows)
    return Column(name, tuple(filter(None, cells)), len(table.rows))


def _text_column(table: Table, columns: Sequence[Column]) -> str:
    prose = [column for column in columns if column.is_prose]
    if not prose:
        raise DataError(
            f"{table.path}: no column looks like reviews (different texts of several words); it has "
            f"{', '.join(table.columns)}; {OPTION.format('text')}"
        )
    return max(prose, key=lambda column: column.mean_length).name


def _label_column(table: Table, columns: Sequence[Column]) -> str:
    repeated = [column for column in columns if column.is_repeated and not column.is_split]
    if not repeated:
        raise DataError(
            f"{table.path}: no column looks like labels (2 to {MOST_LABELS} values, each in several rows); it has "
            f"{', '.join(table.columns)}; {OPTION.format('label')}"
        )
    return min(repeated, key=_label_rank).name


def _label_rank(column: Column) -> tuple[bool, bool, bool, int]:
    """The lowest is the label: by its name, then words before numbers, then the column with most values."""
    is_named, is_second = bool(LABEL_NAME.search(column.name)), bool(SECOND_NAME.search(column.name))
    return not is_named, is_second, column.is_number, -len(column.counts)


def _roles(columns: Sequence[Column], text: str, label: str) -> dict[str, Role]:
    labels = next(column for column in columns if column.name == label).counts
    roles: dict[str, Role] = {text: "text", label: "label"}
    others = [column for column in columns if column.name not in roles]
    seconds = [column for column in others if column.is_repeated and _same_values(column.counts, labels)]
    roles |= {column.name: "second_label" for column in seconds[:1]}
    identities = sorted((c for c in others if c.is_identity), key=lambda c: not ID_NAME.search(c.name))
    roles |= {column.name: "id" for column in identities[:1]}
    roles |= {column.name: "split" for column in [column for column in others if column.is_split][:1]}
    return {column.name: roles.get(column.name, "date" if column.is_date else "other") for column in columns}


def _same_values(values: Iterable[str], labels: Counter[str]) -> bool:
    known = [value in labels for value in values]
    return sum(known) >= MOST * len(known)


def _slices(columns: Sequence[Column], roles: dict[str, Role]) -> list[str]:
    free = [column for column in columns if roles[column.name] == "other" and column.is_repeated]
    return [column.name for column in free if len(column.counts) <= MOST_SLICE_VALUES]


def _label_line(label: str, count: int) -> str:
    enough = "" if count >= MIN_ROWS_PER_LABEL else f", at least {MIN_ROWS_PER_LABEL} are needed"
    return _commented(f'  {_scalar(label)}: "{TODO}: what it means"', f"{count} review{'s' * (count != 1)}{enough}")


def _commented(line: str, comment: str) -> str:
    return f"{line:<{COMMENT_COLUMN}}  # {comment}"


def _scalar(text: str) -> str:
    """The text as YAML, in quotes only if YAML would read it as something else."""
    try:
        is_plain = yaml.safe_load(f"{text}: x") == {text: "x"} and yaml.safe_load(f"- {text}") == [text]
    except yaml.YAMLError:
        is_plain = False
    return text if is_plain and "${" not in text and "#" not in text else json.dumps(text, ensure_ascii=False)
