"""Pages that open offline: one HTML file each, with the styles of templates/page.html, which loads nothing.

A page's template extends `page.html` with the blocks title, style and content. Texts are escaped. A page without a
script allows none; one with a script allows that one only, by its hash, so that no text in the page can run.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from reviewtune.core.outputs import Output
from reviewtune.errors import DataError

FIRST_BYTES = 2_000


def render(package: str, template: str, values: Mapping[str, Any], filters: Mapping[str, Callable[..., str]]) -> str:
    """The page; the same bytes for the same values.

    Args:
        package: the package whose folder templates/ has the template.
        template: name of the template.
        values: its variables; `generator` is the page's mark, from `generator`.
        filters: its own filters.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loader = ChoiceLoader([PackageLoader(package, "templates"), PackageLoader("reviewtune.core", "templates")])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= filters
    return environment.get_template(template).render(values) + "\n"


def generator(command: str) -> str:
    """The element that marks a page of this command, such as `check-data`."""
    return f'<meta name="generator" content="reviewtune {command}">'


def script_hash(script: str) -> str:
    """The script as the page's security policy names it; `script` is all that is inside its element."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def refuse_foreign(target: Output, mark: str, command: str) -> None:
    """Refuse to overwrite a file of somebody else.

    Args:
        target: where the command is to write.
        mark: what the beginning of every file of this command contains.
        command: the command's name, for the message.

    Raises:
        DataError: `target` is an existing file, and its first FIRST_BYTES bytes do not contain the mark.
    """
    if not target.replaces_a_file:
        return
    with target.path.open("rb") as file:
        beginning = file.read(FIRST_BYTES).decode(errors="replace")
    if mark not in beginning:
        raise DataError(f"{target.path}: already exists and was not written by {command}; choose another name")
