"""Read a file of labelled reviews for the data check: every fault is collected, not only the first one raised.

The file is a table (CSV or .xlsx) or chat JSONL. Only what makes the whole file unreadable is an error: it does not
exist, its encoding is not certain, or it has no such column.
"""

import json
import os.path
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd
from omegaconf import OmegaConf

from reviewtune.core.config.data import ColumnsConfig, DataConfig
from reviewtune.core.config.loading import composition
from reviewtune.core.formatting import counted
from reviewtune.core.normalisation import normalise
from reviewtune.core.text_files import encoding_of
from reviewtune.data import spreadsheets
from reviewtune.data.chat.chat_files import example_fault, parsed_lines
from reviewtune.data.delimited_text import decoded
from reviewtune.data.faults import Fault, refuse_faults
from reviewtune.data.language_detection import main_languages
from reviewtune.data.prompts import Line
from reviewtune.data.reviews import given_side, labels_of, review_id, row_faults, single_labels
from reviewtune.data.tables import Table, read_bytes, read_table, refuse_stream
from reviewtune.errors import DataError

MAX_CHARACTERS = 8000
CHAT = re.compile(r'\s*\{\s*"messages"')
NAME_COLUMNS = "name your columns with --text-column and --label-column"
DEFAULT_COLUMNS = ColumnsConfig(text="text", label="label", id=None, second_label=None)


class Review(NamedTuple):
    """A row of `LabelledFile.table`."""

    line: int
    review_id: str
    text: str
    label: str
    label_second: str  # may be empty
    given_split: str = ""  # the side that the file gives it; may be empty


@dataclass(frozen=True)
class LabelledFile:
    """A file of labelled reviews.

    Args:
        path: the file.
        kind: its format.
        table: the rows without a fault, with the columns of `Review`.
        rows: number of all rows with content.
        empty_rows: number of rows without content, which are skipped.
        faults: the rows that stage prepare, or a provider, would refuse.
        labels: those of conf/, or those in the file.
        declared: whether conf/data describes the file.
        language: that of conf/, or those detected in the texts, the most frequent first, joined by +.
        text_column: the column with the review; empty for JSONL.
        raw: the file's text; empty for an .xlsx.
        encoding: such as utf-8; empty for an .xlsx.
    """

    path: Path
    kind: Literal["csv", "xlsx", "jsonl"]
    table: pd.DataFrame
    rows: int
    empty_rows: int
    faults: tuple[Fault, ...]
    labels: tuple[str, ...]
    declared: bool
    language: str
    text_column: str
    raw: str
    encoding: str


def read(
    path: Path,
    data: DataConfig | None,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    second_label_column: str | None = None,
) -> LabelledFile:
    """Read a file of labelled reviews.

    Args:
        path: the file.
        data: the configuration that describes it; None if there is none, then every label is accepted.
        text_column: replaces the column of `data`; JSONL needs no columns.
        label_column: as `text_column`.
        second_label_column: as `text_column`.

    Raises:
        DataError: the file does not exist, cannot be read with certainty, has no such column, or no usable row.
    """
    refuse_stream(path)
    columns = _columns(data, text_column, label_column, second_label_column)
    file = _read_chat(path, data) if _is_chat(path) else _read_table(path, data, columns)
    if file.table.empty:
        refuse_faults(path, file.faults)
        raise DataError(f"{path}: {counted(file.rows, 'row')}, but not one can be used: it is empty")
    return file


def _is_chat(path: Path) -> bool:
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return True
    content = read_bytes(path)
    return not spreadsheets.is_spreadsheet(content) and bool(CHAT.match(decoded(content, path)))


def data_for(path: Path, name: str | None, conf: Path) -> DataConfig | None:
    """Load the data set of conf/data with this name or, without a name, the one whose path is this file.

    Raises:
        ConfigError: there is no such data set.
    """
    if name is None:
        variants = sorted((conf / "data").glob("*.yaml"))
        name = next((variant.stem for variant in variants if _describes(variant, path, conf)), None)
    if name is None:
        return None
    return composition([f"data={name}"], conf)[0].data


def garbled(text: str) -> str | None:
    """What is wrong with a text's characters: lost, decoded twice, or control characters; None if nothing is."""
    if "\ufffd" in text:
        return "a lost character (\ufffd)"
    if any(unicodedata.category(character) == "Cc" and character not in "\t\n\r" for character in text):
        return "a control character"
    try:  # UTF-8 that was once read as CP1252, as in "schÃ¶n": undoing it gives valid UTF-8
        again = text.encode("cp1252").decode("utf-8")
    except UnicodeError:
        return None
    return "UTF-8 read as CP1252" if again != text else None


def _describes(variant: Path, path: Path, conf: Path) -> bool:
    try:
        tree = OmegaConf.to_container(OmegaConf.load(variant))
        named = tree.get("path") if isinstance(tree, dict) else None
    except Exception:  # loading it again reports the fault; in another data set's file it does not matter
        return path.name in variant.read_text(encoding="utf-8", errors="replace")
    return isinstance(named, str) and (conf.parent / named).resolve() == path.resolve()


def _columns(data: DataConfig | None, text: str | None, label: str | None, second: str | None) -> ColumnsConfig:
    named = {"text": text, "label": label, "second_label": second}
    return (data.columns if data else DEFAULT_COLUMNS).model_copy(
        update={key: name for key, name in named.items() if name}
    )


def _read_table(path: Path, data: DataConfig | None, columns: ColumnsConfig) -> LabelledFile:
    table = read_table(path)
    optional = filter(None, (columns.id, columns.second_label, columns.split))
    table.require([columns.text, columns.label, *optional], hint=NAME_COLUMNS)
    labels = data.labels if data else dict.fromkeys(_labels(table, columns), "-")
    rules = (data or _undeclared(path)).model_copy(update={"columns": columns, "labels": labels})
    faults = row_faults(table, rules)
    faulty = {fault.line for fault in faults}
    reviews = [
        Review(
            row.line,
            review_id(row, columns),
            normalise(row.cells[columns.text]),
            *labels_of(row, columns),
            given_side(row, columns),
        )
        for row in table.rows
        if row.line not in faulty
    ]
    return LabelledFile(
        path=path,
        kind=table.kind,
        table=_table(reviews),
        rows=len(table.rows) + len(table.faults),
        empty_rows=table.empty_rows,
        faults=tuple(faults),
        labels=tuple(labels),
        declared=data is not None,
        language=_language(data, reviews),
        text_column=columns.text,
        raw=table.text,
        encoding=table.encoding,
    )


def _labels(table: Table, columns: ColumnsConfig) -> list[str]:
    return single_labels({label for row in table.rows if (label := labels_of(row, columns)[0])})


def _undeclared(path: Path) -> DataConfig:
    """Rules for a file that conf/data does not describe."""
    return DataConfig(
        name=path.stem,
        path=path,
        language="-",
        columns=DEFAULT_COLUMNS,
        slices=(),
        conflicts="drop",
        max_characters=MAX_CHARACTERS,
        mask_personal=False,
        train_size="all",
        labels={"-": "-", "--": "-"},  # replaced by those in the file
    )


def _read_chat(path: Path, data: DataConfig | None) -> LabelledFile:
    content = read_bytes(path)
    raw = decoded(content, path)
    lines, faults = parsed_lines(raw)
    examples, broken = _examples(lines)
    labels = tuple(data.labels) if data else tuple(sorted({example.label for example in examples}))
    unknown = [
        Fault(example.line, f"the answer {example.label!r} does not name a label", example.text)
        for example in examples
        if example.label not in labels
    ]
    reviews = [review for review in _without_prompt(examples) if review.label in labels]
    return LabelledFile(
        path=path,
        kind="jsonl",
        table=_table(reviews),
        rows=len(lines) + len(faults),
        empty_rows=0,
        faults=tuple(sorted([*faults, *broken, *unknown], key=lambda fault: fault.line)),
        labels=labels,
        declared=data is not None,
        language=_language(data, reviews),
        text_column="",
        raw=raw,
        encoding=encoding_of(content),
    )


def _examples(lines: Sequence[tuple[int, Line]]) -> tuple[list[Review], list[Fault]]:
    """The examples of a chat file, with the last user message as text; and the lines that are not examples."""
    examples, faults = [], []
    for number, line in lines:
        messages = line["messages"]
        if message := example_fault(messages):
            faults.append(Fault(number, message))
        else:
            text = [message["content"] for message in messages if message["role"] == "user"][-1]
            examples.append(Review(number, f"line-{number}", text, _label(messages[-1]["content"]), ""))
    return examples, faults


def _label(answer: str) -> str:
    """The label in an answer: a bare one, or the member `label` of a JSON object."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return normalise(answer)
    label = value.get("label") if isinstance(value, dict) else None
    return normalise(label if isinstance(label, str) else answer)


def _without_prompt(examples: Sequence[Review]) -> list[Review]:
    """Without the words that the prompt puts around every review: with them all reviews would be near-duplicates."""
    texts = [example.text for example in examples]
    start = _common_words(texts)
    end = _common_words([text[start:][::-1] for text in texts])
    bare = [normalise(text[start : len(text) - end]) or "-" for text in texts]
    return [example._replace(text=text) for example, text in zip(examples, bare, strict=True)]


def _common_words(texts: Sequence[str]) -> int:
    """The number of characters, in whole words, with which all texts begin."""
    shared = os.path.commonprefix(texts) if len(texts) > 1 else ""  # noqa: RUF071 - of characters, not of folders
    return max(shared.rfind(" "), shared.rfind("\n")) + 1


def _language(data: DataConfig | None, reviews: Sequence[Review]) -> str:
    """The declared language, or those detected in the texts."""
    return data.language if data else main_languages([review.text for review in reviews])


def _table(reviews: Sequence[Review]) -> pd.DataFrame:
    return pd.DataFrame(reviews, columns=list(Review._fields))
