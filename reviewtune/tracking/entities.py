"""Convert names and values to what MLflow accepts."""

import hashlib
import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from mlflow.entities import RunTag

Item = TypeVar("Item")

# MLflow's limits. One request takes at most 1000 values in total, of which 100 params and 100 tags.
METRICS_PER_BATCH, PARAMS_PER_BATCH = 800, 100
NAME_LENGTH, PARAM_LENGTH, TAG_LENGTH, DIGEST_LENGTH = 250, 6000, 8000, 36  # characters


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (name, value) pairs; the keys of nested mappings are joined with dots."""
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def valid_name(name: str) -> str:
    """Return a name that MLflow accepts: other characters become -HEX, a long name is cut and gets a hash."""
    name = re.sub(r"[^\w.\- :/]", lambda match: f"-{ord(match[0]):x}", name)
    if posixpath.normpath(name) != name:  # MLflow treats a name as a path and refuses a//b
        name = name.replace("/", "-2f")
    return name if len(name) <= NAME_LENGTH else f"{name[:200]}-{_sha256(name)[:16]}"


def param_text(value: object) -> str:
    """Return a setting as text; a text that is too long for MLflow is cut and gets its length and hash."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if len(text) <= PARAM_LENGTH:
        return text
    note = f"... ({len(text)} characters, sha256 {_sha256(text)})"
    return text[: PARAM_LENGTH - len(note)] + note


def metric_number(name: object, value: object) -> float:
    """Return the value of a metric.

    Raises:
        TypeError: the value is not a number.
    """
    if isinstance(value, str) or not hasattr(value, "__float__"):
        raise TypeError(f"metric {name}: {value!r} is not a number")
    return float(value)


def tag_entities(mapping: Mapping[str, object]) -> dict[str, "RunTag"]:
    """MLflow's tags by name, without those that are None; a long value is cut."""
    from mlflow.entities import RunTag

    texts = {valid_name(name): str(value)[:TAG_LENGTH] for name, value in mapping.items() if value is not None}
    return {name: RunTag(name, text) for name, text in texts.items()}


def batches(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of at most `size`."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
