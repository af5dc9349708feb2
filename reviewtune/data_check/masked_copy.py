"""Write a copy of a file of labelled reviews with personal data masked."""

import csv
import io
import json
from pathlib import Path

from reviewtune.core.outputs import Output
from reviewtune.data import personal_data
from reviewtune.data.faults import Fault
from reviewtune.data.reviews import read_rows
from reviewtune.data_check.labelled_file import HALF_PAIR, LabelledFile
from reviewtune.errors import DataError


def write_masked(file: LabelledFile, target: Output) -> int:
    """Write a copy of the file with masked reviews.

    Returns:
        The number of reviews that changed.

    Raises:
        DataError: `target` is an existing file, or a line of JSONL cannot be read.
    """
    text, changed = _masked_csv(file) if file.kind == "csv" else _masked_chat(file)
    if target.is_stdout or (target.path.exists() and not target.replaces_a_file):
        target.write_text(text)
    else:
        _write_new(text, target.path)
    return changed


def refuse_existing(target: Output) -> None:
    """Refuse to overwrite a file, which could be the original.

    Raises:
        DataError: `target` is an existing file.
    """
    if target.replaces_a_file:
        raise DataError(f"{target.path}: already exists and is not overwritten; choose another name for --mask")


def _write_new(text: str, path: Path) -> None:
    """Create the file; one that another process created in the meantime is not overwritten."""
    try:
        with path.open("x", encoding="utf-8", newline="") as out:
            out.write(text)
    except FileExistsError:
        refuse_existing(Output(path))
        raise
    except BaseException:
        path.unlink(missing_ok=True)  # incomplete
        raise


def _masked_csv(file: LabelledFile) -> tuple[str, int]:
    rows, column = read_rows(file.path, [file.text_column]), file.text_column
    masked = [{**row.cells, column: personal_data.mask(row.cells[column], file.language)} for row in rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0].cells), lineterminator="\n")
    writer.writeheader()
    writer.writerows(masked)
    return out.getvalue(), sum(new != row.cells for new, row in zip(masked, rows, strict=True))


def _masked_chat(file: LabelledFile) -> tuple[str, int]:
    lines, changed = [], 0
    for number, line in enumerate(file.raw.removesuffix("\n").split("\n"), start=1):
        try:
            masked, differs = _masked_line(line, file.language)
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            fault = Fault(number, f"cannot be masked ({error}); fix or remove it first")
            raise DataError(f"{file.path} {fault}") from error
        lines.append(masked)
        changed += differs
    text = "\n".join(lines) + "\n"
    return (text, changed) if not HALF_PAIR.search(text) else (text.encode("utf-8", "replace").decode(), changed)


def _masked_line(line: str, language: str) -> tuple[str, bool]:
    """Every message is masked, because a system prompt may contain examples."""
    example = json.loads(line)
    messages = [
        {**message, "content": personal_data.mask(message["content"], language)} for message in example["messages"]
    ]
    masked = json.dumps({**example, "messages": messages}, ensure_ascii=False)
    return masked, messages != example["messages"]
