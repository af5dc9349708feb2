"""Write a copy of a file of labelled reviews with personal data masked."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reviewtune.core.normalisation import normalise
from reviewtune.core.outputs import Output
from reviewtune.core.text_files import lines
from reviewtune.data import personal_data
from reviewtune.data.faults import Fault
from reviewtune.data.tables import read_table, to_bytes
from reviewtune.data_check.labelled_file import LabelledFile
from reviewtune.errors import DataError


def write_masked(file: LabelledFile, target: Output) -> int:
    """Write a copy of the file with masked reviews.

    Returns:
        The number of reviews that changed.

    Raises:
        DataError: `target` is an existing file, or a row or line cannot be read.
    """
    content, changed = _masked_chat(file) if file.kind == "jsonl" else _masked_table(file, target.path)
    if target.is_stdout or (target.path.exists() and not target.replaces_a_file):
        target.write_bytes(content)
    else:
        _write_new(content, target.path)
    return changed


def refuse_existing(target: Output) -> None:
    """Refuse to overwrite a file, which could be the original.

    Raises:
        DataError: `target` is an existing file.
    """
    if target.replaces_a_file:
        raise DataError(f"{target.path}: already exists and is not overwritten; choose another name for --mask")


def _write_new(content: bytes, path: Path) -> None:
    """Create the file; one that another process created in the meantime is not overwritten."""
    try:
        with path.open("xb") as out:
            out.write(content)
    except FileExistsError:
        refuse_existing(Output(path))
        raise
    except BaseException:
        path.unlink(missing_ok=True)  # incomplete
        raise


def _masked_table(file: LabelledFile, target: Path) -> tuple[bytes, int]:
    table, column = read_table(file.path), file.text_column
    table.refuse_faults()
    masked = [{**row.cells, column: _masked(row.cells[column], file.language)} for row in table.rows]
    changed = sum(new != row.cells for new, row in zip(masked, table.rows, strict=True))
    return to_bytes(table.columns, masked, target), changed


def _masked(text: str, language: str) -> str:
    """The text as the pipeline masks it; unchanged, with its spaces and invisible characters, if it masks nothing."""
    plain = normalise(text)
    masked = personal_data.mask(plain, language)
    return text if masked == plain else masked


def _masked_chat(file: LabelledFile) -> tuple[bytes, int]:
    """The same lines; a blank one stays blank, so that all keep their numbers."""
    copy, changed = [], 0
    for number, line in lines(file.raw):
        try:
            masked, differs = _masked_line(line, file.language) if line.strip() else ("", False)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            fault = Fault(number, f"cannot be masked ({error}); fix or remove it first")
            raise DataError(f"{file.path} {fault}") from error
        copy.append(masked)
        changed += differs
    return ("\n".join(copy).rstrip("\n") + "\n").encode("utf-8", "replace"), changed


def _masked_line(line: str, language: str) -> tuple[str, bool]:
    """Every message is masked, because a system prompt may contain examples."""
    example = json.loads(line)
    messages = [_masked_message(message, language) for message in example["messages"]]
    masked = json.dumps({**example, "messages": messages}, ensure_ascii=False)
    return masked, messages != example["messages"]


def _masked_message(message: Mapping[str, Any], language: str) -> dict[str, Any]:
    """A content that is no text, such as that of a call of functions, stays as it is."""
    return {key: _masked_content(value, language) if key == "content" else value for key, value in message.items()}


def _masked_content(content: Any, language: str) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(content, list):
        return [_masked_part(part, language) for part in content]
    return _masked(content, language) if isinstance(content, str) else content


def _masked_part(part: Any, language: str) -> Any:  # noqa: ANN401 - any JSON value
    is_text = isinstance(part, dict) and isinstance(part.get("text"), str)
    return {**part, "text": _masked(part["text"], language)} if is_text else part
