"""The addresses under which MLflow finds a database and artifacts in a folder, whatever characters its name has."""

import re
from pathlib import Path
from urllib.parse import quote, unquote

SQLITE = "sqlite:///"


def database_address(database: Path) -> str:
    """The address by which MLflow opens a SQLite file.

    SQLAlchemy decodes `%` and cuts the address at `?`, but MLflow first creates the folder that the address names
    without decoding it. With slashes encoded too, that folder is the current one, which exists.
    """
    return f"{SQLITE}{quote(str(database), safe='')}"


def database_path(address: str) -> str:
    """The file that a SQLite address names; any other address as it is."""
    return unquote(address.removeprefix(SQLITE)) if address.startswith(SQLITE) else address


def below(root: Path, address: str) -> str:
    """A SQLite address with a relative file as the one in `root`; any other address as it is.

    MLflow would look for that file in the working directory.
    """
    name, mark, options = address.partition("?")
    file = Path(database_path(name))
    is_relative = name.startswith(SQLITE) and not file.is_absolute()
    return f"{database_address(root / file)}{mark}{options}" if is_relative else address


def artifacts_address(folder: Path) -> str:
    """The address of a folder of artifacts. MLflow decodes `%` in it, cuts it at `?` or `#`, and puts it into SQL."""
    return re.sub("""[%?#'"]""", lambda match: f"%{ord(match[0]):02X}", str(folder))


def artifacts_path(address: str) -> Path:
    """The folder that `artifacts_address` or a file: address names."""
    return Path(unquote(address.removeprefix("file://")))
