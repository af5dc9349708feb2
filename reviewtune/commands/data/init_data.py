"""The command `init-data`: write a first conf/data/NAME.yaml for a table of labelled reviews."""

import re
import shlex
import unicodedata
from pathlib import Path

from reviewtune.core.atomic_files import write_bytes, write_text
from reviewtune.core.formatting import counted
from reviewtune.core.project import project_root
from reviewtune.data.first_config import FirstConfig, guess, to_yaml
from reviewtune.data.tables import XLSX, read_bytes, read_table, refuse_stream
from reviewtune.errors import ConfigError, DataError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")  # what Hydra reads as a name in `data=NAME`
VALUE = re.compile(r"(\d[\d_]*(e-?\d[\d_]*)?|true|false|null|inf|nan)", re.IGNORECASE)  # which Hydra reads as one
EXAMPLE = 40  # characters of a cell


def init_data(file: Path, *, name: str | None, text_column: str | None, label_column: str | None) -> None:
    """Guess, show and write the description of a table. A table outside of the project is copied into data/raw/.

    Args:
        file: a CSV or .xlsx.
        name: of the data set; None: after the file.
        text_column: the column with the reviews; None: guessed.
        label_column: the column with the labels; None: guessed.

    Raises:
        ConfigError: there is no project here, or the name cannot be used.
        DataError: the table cannot be read or its columns not be guessed, or a file would be overwritten.
    """
    root = project_root()
    if not (root / "conf" / "data").is_dir():
        raise ConfigError(f"{root}: no conf/data here; run this command in the project's folder")
    chosen = _name(file, name)
    target = root / "conf" / "data" / f"{chosen}.yaml"
    refuse_stream(file)
    table = read_table(file)
    if target.exists():
        raise DataError(f"conf/data/{target.name} exists and is not overwritten; choose another name with --name")
    first = guess(table, text=text_column, label=label_column)
    place = _bring_in(file, root, chosen)
    write_text(to_yaml(first, name=chosen, path=place), target)
    _show(first, len(table.faults), chosen, place)


def _name(file: Path, given: str | None) -> str:
    if given is not None and not NAME.fullmatch(given):
        raise ConfigError(f"--name {given}: use letters from a to z, digits, _ and - only")
    if given is not None and VALUE.fullmatch(given):
        raise ConfigError(f"--name {given}: `-S data={given}` would be a value, not a name; use data_{given}")
    plain = unicodedata.normalize("NFKD", file.stem.lower()).encode("ascii", "ignore").decode()
    name = given or re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or "own"
    return f"data_{name}" if VALUE.fullmatch(name) else name


def _bring_in(file: Path, root: Path, name: str) -> str:
    """The table's path relative to the project; a table outside is copied to data/raw/."""
    if file.resolve().is_relative_to(root.resolve()):
        return file.resolve().relative_to(root.resolve()).as_posix()
    content = read_bytes(file)
    suffix = XLSX if file.suffix.lower() == XLSX else ".csv"
    copy = root / "data" / "raw" / f"{name}{suffix}"
    if copy.exists() and copy.read_bytes() != content:
        raise DataError(f"data/raw/{copy.name} exists and is not overwritten; choose another name with --name")
    write_bytes(content, copy)
    return f"data/raw/{copy.name}"


def _show(first: FirstConfig, unread: int, name: str, place: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, padding=(0, 2, 0, 0), title=f"Columns of {escape(place)}", title_justify="left")
    for heading in ("column", "taken as", "first cell"):
        shown.add_column(heading)
    for column, role in first.roles.items():
        taken = "other, possible slice" if column in first.slices else role.replace("_", " ")
        shown.add_row(Text(column), taken, Text(_cut(first.examples[column])))
    Console().print(shown)
    count = sum(first.labels.values())
    size = f"{counted(len(first.labels), 'label')}, {counted(count, 'review')}"
    print(f"\nconf/data/{name}.yaml: {size}, language {first.language or 'not detected'}")
    if first.several_labels:
        rows = "1 row has" if first.several_labels == 1 else f"{first.several_labels:,} rows have"
        print(f"{rows} several labels in one cell; choose the main one for each")
    if unread:
        print(f"{unread} rows have too few or too many cells; `reviewtune check-data` lists them")
    where = "" if Path.cwd() == project_root().resolve() else f" in {project_root()}"
    print(f"next: write in conf/data/{name}.yaml what each label means, then{where}")
    print(f"  reviewtune check-data {shlex.quote(place)}\n  dvc exp run -S data={name}")


def _cut(cell: str) -> str:
    return cell if len(cell) <= EXAMPLE else f"{cell[: EXAMPLE - 3]}..."
