"""The server's log: one line per event, with fields, as text or as JSON.

A log call adds fields with `extra=facts(status=200)`. What clients send may contain reviews, so it is logged only on
request. A log file is bounded: at LOG_BYTES it is renamed to FILE.1, which replaces the previous one.
"""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from enum import StrEnum
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

LOG_BYTES = 5_000_000  # about 30,000 requests


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


def facts(**fields: object) -> dict[str, Any]:
    """Fields for a log call's `extra`."""
    return {"facts": fields}


def set_up(kind: LogFormat, file: Path | None = None) -> None:
    """Send all log records to a file, or without one to standard error."""
    handler: logging.Handler = logging.StreamHandler()
    if file:  # a path may have bytes that are not UTF-8
        handler = _File(file, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(_Json() if kind is LogFormat.JSON else _Text())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class _File(RotatingFileHandler):
    """A rotating file that takes the process's own output along, so that the messages of a crash are not lost.

    When stdout or stderr goes to the same file, a rotation redirects it to the new one.
    """

    def doRollover(self) -> None:  # noqa: N802 - logging's name
        old_file = os.fstat(self._number)
        super().doRollover()
        for output in (sys.__stdout__, sys.__stderr__):
            if output and os.path.samestat(os.fstat(output.fileno()), old_file):
                os.dup2(self._number, output.fileno())

    @property
    def _number(self) -> int:
        assert self.stream is not None  # opened at the start and by each rollover
        return self.stream.fileno()


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        fields = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in _facts(record).items()]
        return " ".join([super().formatMessage(record), *fields])


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "facts", {})
