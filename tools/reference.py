"""Write docs/commands.md and docs/configuration.md from the command line's help and the typed `Config`.

Run: make docs        `python tools/reference.py --check` fails if one of them is out of date.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import typer
import yaml

from reviewtune.commands.main import app
from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import compose_text
from reviewtune.errors import ConfigError, one_line_errors

PROJECT = Path(__file__).parent.parent
NOTE = "<!-- Written by `make docs`; change the code instead. -->"
Schema = Mapping[str, Any]

COMMANDS = """The [overview](README.md) lists commands by task. Each command prints the same with `--help`. A user
error is reported as one line on standard error, with exit status 1."""
SETTINGS = """All keys. Their values are in `conf/`; `make params` composes them into `params.yaml`, which the stages
read. For one run: `dvc exp run -S KEY=VALUE`; for many: `python stages/sweep.py --multirun KEY=VALUE,VALUE`;
another file of a group: `-S GROUP=NAME`. The defaults shown are the values in `conf/`. Unknown keys and
values out of range are all reported together before anything runs."""


def main() -> None:
    """Write the pages, or with `--check` compare them.

    Raises:
        ConfigError: a page is out of date.
    """
    folder = PROJECT / "docs"
    pages = {folder / "commands.md": commands_page(), folder / "configuration.md": configuration_page()}
    for path, text in pages.items():
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            raise ConfigError(f"docs/{path.name} is out of date; run `make docs`")


def commands_page() -> str:
    """An overview, then each command as typer's own documentation prints it."""
    from typer.cli import get_docs_for_click

    group = typer.main.get_command(app)
    context = typer.Context(group)
    commands = dict(_commands(group, "reviewtune", context))
    lines = [
        f"| [`{name}`](#{name.replace(' ', '-')}) | {_first_sentence(command.help)} |"
        for name, command in commands.items()
    ]
    table = "\n".join(["| command | what it does |", "|---|---|", *lines, *_make_targets()])
    texts = [
        f"## {name}\n\n{command.help}"
        if _is_group(command)
        else get_docs_for_click(obj=command, ctx=context, indent=1, title=name, call_prefix=name.rpartition(" ")[0])
        for name, command in commands.items()
    ]
    return "\n\n".join([NOTE, "# Commands", COMMANDS, table, *(text.strip() for text in texts)]) + "\n"


def _commands(group: Any, path: str, context: typer.Context) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - typer's own
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield f"{path} {name}", command
        if _is_group(command):
            yield from _commands(command, f"{path} {name}", context)


def _is_group(command: Any) -> bool:  # noqa: ANN401 - typer's own
    return hasattr(command, "list_commands")


def _make_targets() -> list[str]:
    targets = re.findall(r"^([a-z-]+):.*## (.+)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    return [f"| `make {name}` | {text} |" for name, text in targets]


def _first_sentence(text: str | None) -> str:
    return " ".join(re.split(r"(?<=[.])\s+(?=[A-Z])|\n\n", text or "")[0].split()).removesuffix(".")


def configuration_page() -> str:
    """A table for each section: key, what is allowed, its value in conf/, what it means."""
    schema, values = Config.model_json_schema(), yaml.safe_load(compose_text(conf=PROJECT / "conf"))
    parts = [NOTE, "# Configuration", SETTINGS]
    for name, section in schema["properties"].items():
        parts += [f"## {name}", section["description"] + _files_of(name)]
        for title, rows in _tables(name, section, values[name], schema["$defs"]):
            parts += [title] if title else []
            parts.append("\n".join(["| key | allowed | default | meaning |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _files_of(section: str) -> str:
    folder = {"arms": "arm"}.get(section, section)
    names = [f"`{path.stem}`" for path in sorted((PROJECT / "conf" / folder).glob("*.yaml"))]
    return f" Files in `conf/{folder}/`: {', '.join(names)}." if names else " In `conf/config.yaml`."


def _tables(name: str, section: Schema, values: Any, models: Schema) -> Iterator[tuple[str, list[str]]]:  # noqa: ANN401
    """One table; if a section holds named entries of several kinds, one table for each kind."""
    kinds: Schema = section.get("additionalProperties") or next(iter(section.get("patternProperties", {}).values()), {})
    if "oneOf" not in kinds:
        yield "", list(_rows(name, section, values, models, name))
    for kind, reference in kinds.get("discriminator", {}).get("mapping", {}).items():
        yield f"Of kind `{kind}`:", list(_rows(f"{name}.ARM", {"$ref": reference}, ..., models, name))


def _rows(path: str, schema: Schema, value: Any, models: Schema, section: str) -> Iterator[str]:  # noqa: ANN401
    """The row of a key, or the rows of the keys below it."""
    model = schema.get("$ref", "").rpartition("/")[2]
    same = model.removesuffix("Config").lower()  # the section that is described by this model
    if same in Config.model_fields and same != section:
        yield f"| `{path}` | [as `{same}`](#{same}) | | {schema['description']} |"
    elif model:
        for key, below in models[model]["properties"].items():
            yield from _rows(f"{path}.{key}", below, value[key] if isinstance(value, dict) else ..., models, section)
    elif isinstance(below := schema.get("additionalProperties"), dict):
        yield from _rows(f"{path}.NAME", below, ..., models, section)
    elif "description" in schema:
        meaning = schema["description"].replace("|", "\\|")
        yield f"| `{path}` | {_allowed(schema)} | {_default(value)} | {meaning} |"
    else:
        raise ConfigError(f"{path}: no description; write `= Field(description=...)` after it in core/config.py")


def _default(value: object) -> str:
    if value is ...:
        return ""
    if isinstance(value, dict):
        return f"{len(value)} entries"
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
    return f"`{text}`".replace("|", "\\|")


def _allowed(schema: Schema) -> str:
    if "anyOf" in schema:
        return " or ".join(_allowed(option) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = cast(str, schema["type"])
    words = {"boolean": "`true`, `false`", "null": "`null`", "string": "text", "object": "mapping", "number": "number"}
    if kind == "array":
        return f"list of {_allowed(schema['items'])}"
    return str(schema.get("format", words.get(kind, kind))) + _bounds(schema)


def _bounds(schema: Schema) -> str:
    """The limits of a JSON schema (minimum, pattern, ...) in words."""
    words = {
        "minimum": "from {}",
        "exclusiveMinimum": "above {}",
        "maximum": "to {}",
        "exclusiveMaximum": "below {}",
        "maxLength": "at most {} characters",
        "pattern": "matching `{}`",
        "minProperties": "at least {} entries",
    }
    limits = [text.format(str(schema[key]).replace("|", "\\|")) for key, text in words.items() if key in schema]
    return f" {' '.join(limits)}" if limits else ""


if __name__ == "__main__":
    with one_line_errors():
        main()
