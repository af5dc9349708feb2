"""What `reviewtune serve-app --record FOLDER` keeps: one JSON line per review, one file per day (UTC)."""

import re
from datetime import date
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

NAME = re.compile(r"reviews-(\d{4}-\d{2}-\d{2})\.jsonl")


class RecordedAnswer(BaseModel):
    """A line: a review and how it was answered."""

    model_config = ConfigDict(frozen=True)  # keys of later releases are ignored

    time: str = Field(description="when it was answered, ISO 8601 in UTC")
    text: str = Field(description="the review as the model got it: normalised, masked with data.mask_personal")
    label: str | None = Field(description="null: no usable answer, or no answer")
    confidence: float | None = Field(description="calibrated, in [0, 1]; null: not known")
    sure: bool = Field(description="whether the confidence reaches the threshold")
    model: str | None = Field(description="name of the model that answered; null: none did")
    version: str | None = Field(description="its version; null: it was not promoted")

    @property
    def line(self) -> bytes:
        return self.model_dump_json().encode() + b"\n"


def file_of(folder: Path, day: date) -> Path:
    return folder / f"reviews-{day.isoformat()}.jsonl"


def day_of(path: Path) -> date | None:
    """The day of a file; None: it is not one of a recording."""
    match = NAME.fullmatch(path.name)
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None


def recorded_files(folder: Path) -> list[Path]:
    """The files of a recording, the oldest first.

    Raises:
        OSError: the folder cannot be read.
    """
    return sorted(path for path in folder.iterdir() if day_of(path) is not None)
