"""Which file and line of conf/ a setting comes from, and what in these files YAML would misread.

Hydra composes the files and forgets where a value was. This module reads them once more, only to explain an error.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from reviewtune.core import text_files

Keys = tuple[str, ...]
PACKAGES = {"arm": ("arms",), "experiment": ()}  # of the groups whose name is not their place in the configuration
SHARED = ("prompt", "provider")  # groups that an arm uses too
READ_AS = {"bool": "true or false", "int": "a number", "float": "a number", "null": "nothing"}
NOT_SETTINGS = ("defaults", "hydra")
AGREES = 0.5  # least share of a file's values that the configuration has, if the file was composed


class Entry(NamedTuple):
    """A key of a file: its place in the configuration, its line, and its value, which is None for a mapping."""

    keys: Keys
    line: int
    value: object


@dataclass(frozen=True)
class ConfFile:
    """A file of conf/, as it was read.

    Args:
        name: its path, beginning with conf/.
        group: the folder, such as data; empty for conf/config.yaml.
        entries: its keys.
    """

    name: str
    group: str
    entries: tuple[Entry, ...]

    def agreement(self, tree: Mapping[str, Any]) -> float:
        """The share of its values that the composed configuration has."""
        values = [entry for entry in self.entries if entry.value is not None and "${" not in str(entry.value)]
        equal = [str(value_at(tree, entry.keys)) == str(entry.value) for entry in values]
        return sum(equal) / len(equal) if equal else 0.0


def faults(conf: Path) -> list[str]:
    """What makes the files unreadable or is read differently from what they say; each with file and line."""
    return [fault for path in sorted(conf.rglob("*.yaml")) for fault in _faults(path, _name(path, conf))]


def place(conf: Path, tree: Mapping[str, Any], keys: Sequence[str]) -> str:
    """The file and line that a setting comes from, such as "conf/data/mine.yaml line 5".

    Args:
        conf: the folder.
        tree: the composed configuration.
        keys: where the setting is in it. If no file has it, the nearest key above it is looked up, or the file alone.

    Returns:
        Empty if it is not certain, for example because a command line replaced the value.
    """
    if len(keys) > 2 and keys[0] == "arms" and keys[2] in SHARED:  # a file of conf/prompt is a part of an arm
        inner = place(conf, {keys[2]: value_at(tree, keys[:3])}, keys[2:])
        if inner:
            return inner
    files = _composed(conf, tree)
    for length in range(len(keys), 1, -1):
        wanted = tuple(keys[:length])
        entries = [(file.name, entry) for file in files for entry in file.entries if entry.keys == wanted]
        same = [
            f"{name} line {entry.line}"
            for name, entry in entries
            if entry.value is None or str(value_at(tree, wanted)) == str(entry.value)
        ]
        if entries:
            return same[-1] if same else ""  # later files replace the values of earlier ones, a command line those
    return next((file.name for file in files if len(keys) > 1 and file.group == keys[0]), "")


def value_at(tree: object, keys: Sequence[str]) -> object:
    """The value in nested mappings; None if there is no such key."""
    return reduce(lambda inner, key: inner.get(key) if isinstance(inner, Mapping) else None, keys, tree)


def _composed(conf: Path, tree: Mapping[str, Any]) -> list[ConfFile]:
    """The files that the configuration was probably composed from: those whose values it has."""
    files = [_read(path, conf) for path in sorted(conf.rglob("*.yaml"))]
    chosen = [file for file in files if not file.group]
    for group in sorted({file.group for file in files if file.group}, key=lambda group: group == "experiment"):
        ranked = sorted((file for file in files if file.group == group), key=lambda file: -file.agreement(tree))
        least = 1.0 if group == "experiment" else AGREES
        kept = ranked if group == "arm" else ranked[:1]
        chosen += [file for file in kept if file.agreement(tree) >= least]
    return chosen


def _read(path: Path, conf: Path) -> ConfFile:
    group = path.parent.relative_to(conf).as_posix().removeprefix(".")
    entries = _parsed(path.read_bytes(), PACKAGES.get(group, tuple(filter(None, (group,)))))
    return ConfFile(_name(path, conf), group, entries)


@lru_cache(maxsize=64)  # each fault of a configuration looks them up again
def _parsed(content: bytes, package: Keys) -> tuple[Entry, ...]:
    try:
        root = yaml.compose(text_files.decode(content), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, text_files.UndecodableError, RecursionError):
        return ()
    return tuple(entry for entry in _entries(root, package) if entry.keys[0] not in NOT_SETTINGS)


def _entries(node: yaml.Node | None, above: Keys) -> Iterator[Entry]:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        keys = (*above, str(key.value))
        is_leaf = not isinstance(value, yaml.MappingNode)
        yield Entry(keys, key.start_mark.line + 1, _python(value) if is_leaf else None)
        yield from _entries(value, keys)


def _python(node: yaml.Node) -> object:
    try:
        return yaml.SafeLoader("").construct_object(node, deep=True)
    except yaml.YAMLError:
        return None


def _faults(path: Path, name: str) -> list[str]:
    content = path.read_bytes()
    if (encoding := text_files.encoding_of(content)) != "utf-8":
        return [f"{name}: this is {encoding.upper()}; save it as UTF-8"]
    try:
        root = yaml.compose(text_files.decode(content), Loader=yaml.SafeLoader)
    except text_files.UndecodableError as error:
        return [f"{name} {error}; save it as UTF-8"]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        return [f"{name} line {line}: {error.problem or error}"]
    except (yaml.YAMLError, RecursionError) as error:
        return [f"{name}: {error}"]
    return list(_key_faults(root, name))


def _key_faults(node: yaml.Node | None, name: str) -> Iterator[str]:
    """Keys that occur twice in a mapping, and those that YAML reads as something else than text."""
    if not isinstance(node, yaml.MappingNode):
        return
    lines = dict[str, int]()
    for key, value in node.value:
        text, line = str(key.value), key.start_mark.line + 1
        if text in lines:
            yield f"{name} line {line}: '{text}' is there twice, first on line {lines[text]}; remove one"
        lines.setdefault(text, line)
        if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            kind = key.tag.rpartition(":")[2]
            meant = READ_AS.get(kind, f"a {kind}")
            yield f'{name} line {line}: YAML reads the key {text or "(empty)"} as {meant}; put it in quotes: "{text}"'
        yield from _key_faults(value, name)


def _name(path: Path, conf: Path) -> str:
    return f"{conf.name}/{path.relative_to(conf).as_posix()}"
