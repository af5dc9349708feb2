"""The server's log: one line an event, its facts as fields, for people or for programs.

A log call adds facts by `extra=facts(status=200)`. Reviews are no facts: what clients send is logged only on demand.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


def facts(**fields: object) -> dict[str, Any]:
    return {"facts": fields}


def set_up(kind: LogFormat) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if kind is LogFormat.JSON else _Text())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


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
