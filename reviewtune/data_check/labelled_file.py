"""Read a file of labelled reviews for the data check: every fault is collected, not only the first one raised.

The file is a CSV or chat JSONL. Only what makes the whole file unreadable is an error: it does not exist, is not UTF-8,
or has no such column.
"""

import json
import os.path
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from reviewtune.core.config import ColumnsConfig, DataConfig
from reviewtune.core.config_loading import compose_text, from_hydra
from reviewtune.core.formatting import counted
from reviewtune.data.chat_files import example_fault, parse_line
from reviewtune.data.faults import Fault
from reviewtune.data.language_detection import UNSURE, detect
from reviewtune.data.reviews import decoded, labels_of, normalise, read_rows, review_id, row_faults
from reviewtune.errors import DataError

MAX_CHARACTERS = 8000
COMMON = 0.02  # a language of fewer texts may be an error of the detector
HALF_PAIR = re.compile(r"[\ud800-\udfff]")
NAME_COLUMNS = "name your columns with --text-column and --label-column"
DEFAULT_COLUMNS = ColumnsConfig(text="text", label="label", id=None, second_label=None)


class Review(NamedTuple):
    """A row of `LabelledFile.table`."""

    line: int
    review_id: str
    text: str
    label: str
    label_second: str  # may be empty


@dataclass(frozen=True)
class LabelledFile:
    """A file of labelled reviews.

    Args:
        path: the file.
        kind: its format.
        table: the rows without a fault, with the columns of `Review`.
        rows: number of all rows.
        faults: the rows that stage prepare, or a provider, would refuse.
        labels: those of conf/, or those in the file.
        declared: whether conf/data describes the file.
        language: that of conf/, or those detected in the texts, the most frequent first, joined by +.
        text_column: the column with the review; empty for JSONL.
        raw: the file's text.
    """

    path: Path
    kind: Literal["csv", "jsonl"]
    table: pd.DataFrame
    rows: int
    faults: tuple[Fault, ...]
    labels: tuple[str, ...]
    declared: bool
    language: str
    text_column: str
    raw: str


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
        DataError: the file does not exist, is not UTF-8, has no such column, has a broken CSV row or no usable row.
    """
    raw = decoded(path)
    is_chat = path.suffix.lower() in (".jsonl", ".ndjson") or raw.lstrip().startswith('{"messages"')
    columns = _columns(data, text_column, label_column, second_label_column)
    file = _read_chat(path, raw, data) if is_chat else _read_csv(path, raw, data, columns)
    if file.table.empty:
        first = file.faults[0].message if file.faults else "it is empty"
        raise DataError(f"{path}: {counted(file.rows, 'row')}, but not one can be used: {first}")
    return file


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
    tree = OmegaConf.create(compose_text([f"data={name}"], conf))
    assert isinstance(tree, DictConfig)
    return from_hydra(tree).data


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
    except Exception:  # a fault in another data set's file does not matter here
        return False
    return isinstance(named, str) and (conf.parent / named).resolve() == path.resolve()


def _columns(data: DataConfig | None, text: str | None, label: str | None, second: str | None) -> ColumnsConfig:
    named = {"text": text, "label": label, "second_label": second}
    return (data.columns if data else DEFAULT_COLUMNS).model_copy(
        update={key: name for key, name in named.items() if name}
    )


def _read_csv(path: Path, raw: str, data: DataConfig | None, columns: ColumnsConfig) -> LabelledFile:
    required = [columns.text, columns.label, *filter(None, (columns.id, columns.second_label))]
    rows = read_rows(path, required, hint=NAME_COLUMNS)
    present = sorted({label for row in rows if (label := labels_of(row, columns)[0])})
    labels = data.labels if data else dict.fromkeys(present, "-")
    rules = (data or _undeclared(path)).model_copy(update={"columns": columns, "labels": labels})
    faults = row_faults(rows, rules)
    faulty = {fault.line for fault in faults}
    reviews = [
        Review(row.line, review_id(row, columns), normalise(row.cells[columns.text]), *labels_of(row, columns))
        for row in rows
        if row.line not in faulty
    ]
    return LabelledFile(
        path=path,
        kind="csv",
        table=_table(reviews),
        rows=len(rows),
        faults=tuple(faults),
        labels=tuple(labels),
        declared=data is not None,
        language=_language(data, reviews),
        text_column=columns.text,
        raw=raw,
    )


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


def _read_chat(path: Path, raw: str, data: DataConfig | None) -> LabelledFile:
    lines = raw.removesuffix("\n").split("\n") if raw.strip() else []
    examples, faults = _examples(lines)
    labels = tuple(data.labels) if data else tuple(sorted({example.label for example in examples}))
    faults += [
        Fault(example.line, f"the answer {example.label!r} does not name a label")
        for example in examples
        if example.label not in labels
    ]
    reviews = [review for review in _without_common_prefix(examples) if review.label in labels]
    return LabelledFile(
        path=path,
        kind="jsonl",
        table=_table(reviews),
        rows=len(lines),
        faults=tuple(faults),
        labels=labels,
        declared=data is not None,
        language=_language(data, reviews),
        text_column="",
        raw=raw,
    )


def _examples(lines: Sequence[str]) -> tuple[list[Review], list[Fault]]:
    """The examples of a chat file, with the last user message as text; and the lines that are not examples."""
    examples, faults = [], []
    for number, line in enumerate(lines, start=1):
        try:
            text, answer = _question_and_answer(line)
        except ValueError as error:
            faults.append(Fault(number, str(error)))
        else:
            examples.append(Review(number, f"line-{number}", text, _label(answer), ""))
    return examples, faults


def _question_and_answer(line: str) -> tuple[str, str]:
    """The last user message and the answer.

    Raises:
        ValueError: the line is not an example; says what is wrong.
    """
    messages = parse_line(line)["messages"]
    if HALF_PAIR.search(json.dumps(messages, ensure_ascii=False)):
        raise ValueError("half of a surrogate pair (\\ud800 to \\udfff alone) is not a character")
    if message := example_fault(messages):
        raise ValueError(message)
    questions = [message["content"] for message in messages if message["role"] == "user"]
    return questions[-1], messages[-1]["content"]


def _label(answer: str) -> str:
    """The label in an answer: a bare one, or the member `label` of a JSON object."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return answer.strip()
    label = value.get("label") if isinstance(value, dict) else None
    return label.strip() if isinstance(label, str) else answer.strip()


def _without_common_prefix(examples: Sequence[Review]) -> list[Review]:
    """Without the words that the prompt puts before every review: with them all reviews would be near-duplicates."""
    texts = [example.text for example in examples]
    shared = os.path.commonprefix(texts) if len(texts) > 1 else ""  # noqa: RUF071 - of characters, not of folders
    start = max(shared.rfind(" "), shared.rfind("\n")) + 1
    return [example._replace(text=normalise(example.text[start:]) or "-") for example in examples]


def _language(data: DataConfig | None, reviews: Sequence[Review]) -> str:
    """The declared language, or the detected ones of at least COMMON of the reviews."""
    if data:
        return data.language
    counts = Counter(each.language for each in detect([review.text for review in reviews]) if each.language != UNSURE)
    return "+".join(name for name, n in counts.most_common() if n >= COMMON * len(reviews))


def _table(reviews: Sequence[Review]) -> pd.DataFrame:
    return pd.DataFrame(reviews, columns=list(Review._fields))
