"""Read and write small files: UTF-8, a final line break, and writes that are complete or do not happen."""

import json
import os
from pathlib import Path
from typing import Any


def write_text(text: str, path: Path) -> None:
    """Write the text as UTF-8, as `write_bytes` writes."""
    write_bytes(text.encode("utf-8"), path)


def write_bytes(content: bytes, path: Path) -> None:
    """Replace the file in one step, so that no reader sees a part of it; missing folders are created.

    A link stays a link: its target is replaced. A replaced file keeps its permissions. What exists and is not a regular
    file, such as /dev/stdout or a named pipe, is written to and never replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        if target.exists():
            partial.chmod(target.stat().st_mode)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_json(value: Any, path: Path) -> None:  # noqa: ANN401 - any JSON value
    write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", path)


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Read a JSON file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
