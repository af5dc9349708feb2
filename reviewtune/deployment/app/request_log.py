"""The service's log: one JSON line per event on standard error, without reviews, keys and queries of addresses."""

import json
import logging
import traceback
from datetime import UTC, datetime
from types import TracebackType

requests = logging.getLogger("reviewtune.app.requests")
events = logging.getLogger("reviewtune.app")


def set_up() -> None:
    """Send the log of the whole process to standard error, as JSON; of other libraries only warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("reviewtune").setLevel(logging.INFO)


class JsonLines(logging.Formatter):
    """A record as one line. Of an exception it shows type and places, not the message, which may quote a review."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info and record.exc_info[0]:
            entry |= {"error": record.exc_info[0].__name__, "at": places(record.exc_info[2])}
        return json.dumps(entry, ensure_ascii=False)


def places(trace: TracebackType | None) -> list[str]:
    """The lines of code of a traceback, the innermost last."""
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]
