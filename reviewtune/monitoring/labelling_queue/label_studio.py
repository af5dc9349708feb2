"""Label Studio's JSON: tasks with predictions to import, its two JSON exports to read.

Sources: Label Studio's guide, "Import pre-annotated data" and "Export annotations" (JSON and JSON-MIN).
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import quoteattr

from reviewtune.errors import DataError

FROM, TO = "label", "text"  # names of the tags in the labelling interface
EXPORT = "export it from Label Studio as JSON or JSON-MIN"


class Task(NamedTuple):
    """A review to label: its name, its cells by column, the predicted label and its confidence."""

    name: str
    cells: dict[str, str]
    predicted: str | None
    confidence: float | None


class Choice(NamedTuple):
    """What a person chose: the number of the task in the file, its name, its text, and the labels chosen."""

    number: int
    task: str
    text: str
    labels: tuple[str, ...]


def to_json(tasks: Iterable[Task], model: str) -> bytes:
    """Tasks to import.

    Args:
        tasks: the reviews.
        model: name of the model that predicted.
    """
    items = [_item(task, model) for task in tasks]
    return (json.dumps(items, ensure_ascii=False, indent=2) + "\n").encode()


def interface(labels: Iterable[str]) -> str:
    """The labelling interface (XML) that belongs to the tasks: one label for each text."""
    choices = "\n".join(f"    <Choice value={quoteattr(label)}/>" for label in labels)
    return (
        f'<View>\n  <Text name="{TO}" value="$text"/>\n'
        f'  <Choices name="{FROM}" toName="{TO}" choice="single">\n{choices}\n  </Choices>\n</View>\n'
    )


def read_choices(content: bytes, path: Path) -> list[Choice]:
    """The choices in an export; several of one task if it has several annotations that count.

    A task without annotations, or with skipped ones only, has one choice without labels.

    Raises:
        DataError: the file is not such an export.
    """
    try:
        items = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged JSON ({error}); {EXPORT}") from error
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise DataError(f"{path}: this JSON is not a list of tasks; {EXPORT}")
    return [choice for number, item in enumerate(items, start=1) for choice in _choices(number, item)]


def _item(task: Task, model: str) -> dict[str, Any]:
    return {"data": {**task.cells, "task": task.name}, "predictions": _predictions(task, model)}


def _predictions(task: Task, model: str) -> list[dict[str, Any]]:
    if task.predicted is None:
        return []
    result = {"from_name": FROM, "to_name": TO, "type": "choices", "value": {"choices": [task.predicted]}}
    score = {} if task.confidence is None else {"score": task.confidence}
    return [{"model_version": model, **score, "result": [result]}]


def _choices(number: int, item: dict[str, Any]) -> list[Choice]:
    data = item["data"] if isinstance(item.get("data"), dict) else item
    name, text = str(data.get("task") or ""), str(data.get("text") or "")
    if data is item:  # JSON-MIN
        chosen = [_flat(item.get(FROM))]
    else:
        chosen = [_annotated(one) for one in _listed(item.get("annotations")) if not one.get("was_cancelled")]
    return [Choice(number, name, text, labels) for labels in chosen or [()]]


def _annotated(annotation: dict[str, Any]) -> tuple[str, ...]:
    labels: list[str] = []
    for result in _listed(annotation.get("result")):
        value = result.get("value")
        if result.get("from_name") == FROM and isinstance(value, dict):
            labels += _flat(value)
    return tuple(labels)


def _flat(value: object) -> tuple[str, ...]:
    """The labels of a cell of JSON-MIN: one, or an object with several."""
    if isinstance(value, dict):
        value = value.get("choices")
    if isinstance(value, list):
        return tuple(str(label) for label in value)
    return (str(value),) if value else ()


def _listed(value: object) -> Sequence[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
