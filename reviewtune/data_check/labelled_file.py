"""A file of labelled reviews as a doctor reads it: every fault is noted, not only the first one raised.

CSV or chat JSONL. Only what makes the whole file unreadable is an error: no file, not UTF-8, no such column.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from reviewtune.core.config import ColumnsConfig, DataConfig
from reviewtune.core.config_loading import compose_text, from_hydra
from reviewtune.data.chat_files import form_fault
from reviewtune.data.language_detection import UNSURE, detect
from reviewtune.data.reviews import decoded, fault, normalise, read_rows
from reviewtune.errors import DataError

MAX_CHARACTERS = 8000
COMMON = 0.02  # a language of fewer texts may be a slip of the detector
HALF_PAIR = re.compile(r"[\ud800-\udfff]")
DO_NAME_COLUMNS = "name them with --text-column and --label-column"


class Fault(NamedTuple):
    """A row that stage prepare, or a provider, would refuse."""

    line: int
    message: str


@dataclass(frozen=True)
class LabelledFile:
    """`table` holds the rows without a fault: line, review_id, text, label, label_second (may be empty).

    `labels` and `language` are those of conf/data; or `declared` is False, and they are the labels that were seen and
    the languages that are told from the texts, commonest first, joined by +. `raw` is the file's text.
    """

    path: Path
    kind: Literal["csv", "jsonl"]
    table: pd.DataFrame
    rows: int
    faults: tuple[Fault, ...]
    labels: tuple[str, ...]
    declared: bool
    language: str
    text_column: str  # empty for JSONL
    raw: str


def read(
    path: Path,
    data: DataConfig | None,
    *,
    text_column: str | None,
    label_column: str | None,
    second_label_column: str | None = None,
) -> LabelledFile:
    """Read a CSV by the columns of `data`, each of which an option may replace; JSONL needs no columns.

    Raises:
        DataError: no such file, not UTF-8, no such column, a broken CSV row, or not one row that could be used.
    """
    raw = decoded(path)
    is_chat = path.suffix.lower() in (".jsonl", ".ndjson") or raw.lstrip().startswith('{"messages"')
    columns = _columns(data, text_column, label_column, second_label_column)
    found = _read_chat(path, raw, data) if is_chat else _read_csv(path, raw, data, columns)
    if found.table.empty:
        first = found.faults[0].message if found.faults else "it is empty"
        raise DataError(f"{path}: none of {found.rows} row(s) can be used: {first}")
    return found


def data_for(path: Path, name: str | None, conf: Path) -> DataConfig | None:
    """The data set of conf/data that is asked for by name, or else whose path is this file.

    Raises:
        ConfigError: no such data set.
    """
    if name is None:
        name = next((one.stem for one in sorted((conf / "data").glob("*.yaml")) if _names(one, path, conf)), None)
    if name is None:
        return None
    tree = OmegaConf.create(compose_text([f"data={name}"], conf))
    assert isinstance(tree, DictConfig)
    return from_hydra(tree).data


def _names(variant: Path, path: Path, conf: Path) -> bool:
    try:
        tree = OmegaConf.to_container(OmegaConf.load(variant))
        named = tree.get("path") if isinstance(tree, dict) else None
    except Exception:  # another variant's fault is not this file's
        return False
    return isinstance(named, str) and (conf.parent / named).resolve() == path.resolve()


def _read_csv(path: Path, raw: str, data: DataConfig | None, columns: ColumnsConfig) -> LabelledFile:
    wanted = [columns.text, columns.label, *filter(None, (columns.id, columns.second_label))]
    try:
        rows = read_rows(path, wanted)
    except DataError as error:
        raise DataError(
            str(error).replace("name your columns in conf/data/NAME.yaml, columns", DO_NAME_COLUMNS)
        ) from error
    seen = dict.fromkeys(sorted({label for row in rows if (label := row.cells[columns.label].strip())}), "-")
    rules = (data or _undeclared(path)).model_copy(update={"columns": columns, "labels": data.labels if data else seen})
    faults = [Fault(row.line, message) for row in rows if (message := fault(row, rules))]
    bad = {one.line for one in faults}
    records = [
        {
            "line": row.line,
            "review_id": row.cells[columns.id].strip() if columns.id else f"line-{row.line}",
            "text": normalise(row.cells[columns.text]),
            "label": row.cells[columns.label].strip(),
            "label_second": row.cells[columns.second_label].strip() if columns.second_label else "",
        }
        for row in rows
        if row.line not in bad
    ]
    clean = tuple(Fault(one.line, re.sub(r"^line \d+: ", "", one.message)) for one in faults)
    labels = tuple(rules.labels)
    table, declared = _table(records), data is not None
    language = data.language if data else _languages(table["text"].tolist())
    return LabelledFile(path, "csv", table, len(rows), clean, labels, declared, language, columns.text, raw)


def _columns(data: DataConfig | None, text: str | None, label: str | None, second: str | None) -> ColumnsConfig:
    base = data.columns if data else ColumnsConfig(text="text", label="label", id=None, second_label=None)
    named = {"text": text, "label": label, "second_label": second}
    return base.model_copy(update={key: name for key, name in named.items() if name})


def _undeclared(path: Path) -> DataConfig:
    """Rules for a file that no conf/data describes: any label goes."""
    columns = ColumnsConfig(text="text", label="label", id=None, second_label=None)
    return DataConfig(
        name=path.stem,
        path=path,
        language="-",
        columns=columns,
        slices=(),
        conflicts="drop",
        max_characters=MAX_CHARACTERS,
        mask_personal=False,
        train_size="all",
        labels={"-": "-", "--": "-"},  # replaced by those that are seen
    )


def _read_chat(path: Path, raw: str, data: DataConfig | None) -> LabelledFile:
    faults: list[Fault] = []
    records: list[dict[str, Any]] = []
    lines = raw.removesuffix("\n").split("\n") if raw.strip() else []
    for number, text in enumerate(lines, start=1):
        try:
            records.append({"line": number, "review_id": f"line-{number}", **_example(text), "label_second": ""})
        except ValueError as error:
            faults.append(Fault(number, str(error)))
    frame = _without_frame([record["text"] for record in records])
    records = [{**record, "text": normalise(text) or "-"} for record, text in zip(records, frame, strict=True)]
    seen = tuple(sorted({record["label"] for record in records}))
    labels = tuple(data.labels) if data else seen
    faults += [
        Fault(r["line"], f"the answer {r['label']!r} names no label") for r in records if r["label"] not in labels
    ]
    table = _table([record for record in records if record["label"] in labels])
    language = data.language if data else _languages(table["text"].tolist())
    return LabelledFile(path, "jsonl", table, len(lines), tuple(faults), labels, data is not None, language, "", raw)


def _example(text: str) -> dict[str, str]:
    """Text and label of one line.

    Raises:
        ValueError: with what is wrong with the line.
    """
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from error
    messages = line.get("messages") if isinstance(line, dict) else None
    if not isinstance(messages, list):
        raise ValueError('wants an object {"messages": [...]}')
    if HALF_PAIR.search(json.dumps(messages, ensure_ascii=False)):
        raise ValueError("half of a surrogate pair (\\ud800 to \\udfff alone) is no character")
    if broken := form_fault(messages):
        raise ValueError(broken)
    asked = [message["content"] for message in messages if message["role"] == "user"]
    return {"text": asked[-1], "label": _label(messages[-1]["content"])}


def _label(answer: str) -> str:
    """The label of an answer: bare, or the member `label` of a JSON object."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return answer.strip()
    label = found.get("label") if isinstance(found, dict) else None
    return label.strip() if isinstance(label, str) else answer.strip()


def _without_frame(texts: Sequence[str]) -> list[str]:
    """Without the words that a prompt puts before every review, which would make all of them near-duplicates."""
    if len(texts) < 2:
        return list(texts)
    first, last = min(texts), max(texts)  # what these two share, all share
    differ = next((i for i, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    shared = first[:differ]
    cut = max(shared.rfind(" "), shared.rfind("\n")) + 1
    return [text[cut:] for text in texts]


def _languages(texts: Sequence[str]) -> str:
    """Those of at least COMMON of the texts."""
    counts = Counter(guess.language for guess in detect(texts) if guess.language != UNSURE)
    return "+".join(name for name, n in counts.most_common() if n >= COMMON * len(texts))


def _table(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(records, columns=["line", "review_id", "text", "label", "label_second"])


def garbled(text: str) -> str | None:
    """What is wrong with the characters of a text: lost, decoded twice, or control characters; None for nothing."""
    if "\ufffd" in text:
        return "a lost character (\ufffd)"
    if any(unicodedata.category(character) == "Cc" and character not in "\t\n\r" for character in text):
        return "a control character"
    try:  # UTF-8 that was once read as CP1252, as in "schÃ¶n": the way back gives sense
        again = text.encode("cp1252").decode("utf-8")
    except UnicodeError:
        return None
    return "UTF-8 read as CP1252" if again != text else None
