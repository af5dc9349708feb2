"""The server's log: one line an event, its facts as fields, for people or for programs.

A log call adds facts by `extra=facts(status=200)`. Reviews are no facts: what clients send is logged only on demand.
A file of the log is kept bounded: at LOG_BYTES it becomes FILE.1, in place of the one before.
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
    return {"facts": fields}


def set_up(kind: LogFormat, file: Path | None = None) -> None:
    """To the file, or without one to standard error."""
    handler = _File(file, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8") if file else logging.StreamHandler()
    handler.setFormatter(_Json() if kind is LogFormat.JSON else _Text())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class _File(RotatingFileHandler):
    """Where the process's own output goes to the same file, it moves along: a crash's last words are not lost."""

    def doRollover(self) -> None:  # noqa: N802 - logging's name
        before = os.fstat(self._number)
        super().doRollover()
        for output in (sys.__stdout__, sys.__stderr__):
            if output and os.path.samestat(os.fstat(output.fileno()), before):
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
