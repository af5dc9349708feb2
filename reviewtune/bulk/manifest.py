"""manifest.json in the folder of the parts: what is classified, with what, and which parts are finished.

It is written after each part. The same command continues from it, and is refused if anything is different. On a cluster
a part may be finished before an earlier one, which is then missing until it is finished too.
"""

from collections import Counter
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from reviewtune.analyzer.classifier import Identity
from reviewtune.bulk.blocks import START, Position
from reviewtune.bulk.parts import Failure, number_of
from reviewtune.core.result_file import ResultFile, ResultPart, read_result, write_result
from reviewtune.errors import DataError

MANIFEST = "manifest.json"
MOST_FAILED = 100  # rows without a label that are listed
TITLES = {"model_version": "version", "part_rows": "--part-rows", "format": "--format", "keep": "--keep"}
"""What differs, in words; other fields are called as they are."""


class Model(ResultPart):
    """What classifies."""

    model: str = Field(description="its name")
    model_version: str | None = Field(description="of the served model; null: it is not a served model")
    prompt: str | None = Field(description="fingerprint of its prompt; null: it has none")
    settings: str = Field(description="fingerprint of everything else: provider, request, examples, calibration")

    @classmethod
    def of(cls, identity: Identity) -> "Model":
        return cls(
            model=identity.model,
            model_version=identity.version,
            prompt=identity.prompt,
            settings=identity.settings,
        )


class Options(ResultPart):
    """How the parts look."""

    format: Literal["parquet", "csv"] = Field(description="of the parts")
    part_rows: int = Field(description="rows of each part but the last")
    keep: tuple[str, ...] = Field(description="columns of the files that are copied")


class InputFile(ResultPart):
    """A file as it was at the beginning."""

    name: str = Field(description="its name")
    size: int = Field(description="bytes")
    changed_at: int = Field(description="when it was last written, in ns since 1970")
    sha256: str = Field(description="of its bytes")
    rows: int = Field(description="rows of a Parquet file; line breaks of a CSV, which are about as many")
    text_column: str = Field(description="column with the reviews")


class FinishedPart(ResultPart):
    """A part that is not written again, unless rows of it got no answer."""

    name: str = Field(description="its file")
    size: int = Field(description="bytes")
    rows: int = Field(description="rows in it")
    labels: dict[str, int] = Field(description="rows with each label")
    failed: int = Field(description="rows without a label")
    unanswered: int = Field(0, description="those of them about which the next command asks again")
    end_file: int = Field(description="index in `files` of its last row's file")
    end_rows: int = Field(description="rows of that file that were read when the part ended")


class FailedRow(ResultPart):
    """A row without a label."""

    file: str = Field(description="name of its file")
    line: int = Field(description="its line in a CSV, its place in a Parquet file; 1 is the first")
    why: str = Field(description="the reason")
    part: str = Field("", description="file of its part")


class Manifest(ResultFile):
    """The whole work."""

    model: Model = Field(description="what classifies")
    options: Options = Field(description="how the parts look")
    files: tuple[InputFile, ...] = Field(description="what is read, in this order")
    complete: bool = Field(False, description="whether all rows are in the parts")
    rows: int = Field(0, description="rows in the finished parts")
    labels: dict[str, int] = Field({}, description="rows with each label, the most frequent first")
    failed: int = Field(0, description="rows without a label")
    failed_rows: tuple[FailedRow, ...] = Field((), description="the first 100 of them; the parts have them all")
    parts: tuple[FinishedPart, ...] = Field((), description="finished parts, in order")

    @property
    def unbroken(self) -> int:
        """How many finished parts there are before the first missing one."""
        return next((at for at, part in enumerate(self.parts) if number_of(part.name) != at), len(self.parts))

    @property
    def end(self) -> Position:
        """The position after them."""
        last = self.parts[self.unbroken - 1] if self.unbroken else None
        return Position(last.end_file, last.end_rows) if last else START

    @property
    def unanswered(self) -> int:
        """How many rows the next command asks about again."""
        return sum(part.unanswered for part in self.parts)

    def with_part(self, part: FinishedPart, failures: tuple[Failure, ...]) -> "Manifest":
        """With one more finished part."""
        listed = [
            FailedRow(file=row.file, line=row.number, why=row.why, part=part.name) for row in failures[:MOST_FAILED]
        ]
        order = {file.name: index for index, file in enumerate(self.files)}
        first = sorted((*self.failed_rows, *listed), key=lambda row: (order[row.file], row.line))
        parts = sorted((*self.parts, part), key=lambda one: number_of(one.name))
        return self._of(parts, first[:MOST_FAILED])

    def without(self, names: Container[str]) -> "Manifest":
        """Without these parts; with none of them, the same."""
        parts = [part for part in self.parts if part.name not in names]
        failed_rows = [row for row in self.failed_rows if row.part not in names]
        return self if len(parts) == len(self.parts) else self._of(parts, failed_rows)

    def _of(self, parts: Sequence[FinishedPart], failed_rows: Sequence[FailedRow]) -> "Manifest":
        labels = Counter[str]()
        for part in parts:
            labels.update(part.labels)
        update = {
            "complete": False,
            "rows": sum(part.rows for part in parts),
            "labels": dict(sorted(labels.items(), key=lambda item: (-item[1], item[0]))),
            "failed": sum(part.failed for part in parts),
            "failed_rows": tuple(failed_rows),
            "parts": tuple(parts),
        }
        return self.model_copy(update=update)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    write_result(manifest, folder / MANIFEST)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an earlier command.

    Raises:
        DataError: it is damaged, or another program's.
    """
    return read_result(
        folder / MANIFEST,
        Manifest,
        if_missing="run the command again",
        if_damaged="it was changed, or is of another program; name another folder with --out",
    )


def refuse_other_work(before: Manifest, now: Manifest, folder: Path) -> None:
    """Refuse to continue with another model, other files or other options, or without a finished part.

    Raises:
        DataError: with the first difference.
    """
    if difference := _difference(before, now):
        raise DataError(
            f"{folder}/{MANIFEST}: {difference}; continue with the same as then, or start anew: delete {folder}, or "
            "name another folder with --out"
        )
    for part in before.parts:
        path = folder / part.name
        if not path.is_file() or path.stat().st_size != part.size:
            seen = "is not as it was written" if path.exists() else "is missing"
            raise DataError(
                f"{path} {seen}: put it back, or start anew: delete {folder}, or name another folder with --out"
            )


def _difference(before: Manifest, now: Manifest) -> str | None:
    """What differs, in words; None: nothing that matters."""
    for section in ("model", "options"):
        then, given = getattr(before, section), getattr(now, section)
        for name in type(then).model_fields:
            if getattr(then, name) != getattr(given, name):
                values = f"{_shown(getattr(then, name))}, now it is {_shown(getattr(given, name))}"
                return f"the parts were begun with {TITLES.get(name, name)} {values}"
    return _other_files(before, now)


def _other_files(before: Manifest, now: Manifest) -> str | None:
    then, given = ({file.name: file for file in manifest.files} for manifest in (before, now))
    if missing := [name for name in then if name not in given]:
        return f"the parts were begun with the file {missing[0]}, which is not there now"
    if added := [name for name in given if name not in then]:
        return f"the parts were begun without the file {added[0]}"
    for name, file in then.items():
        if file.sha256 != given[name].sha256:
            return f"the file {name} was changed since the parts were begun"
        if file.text_column != given[name].text_column:
            columns = f"'{file.text_column}' of {name}, now it is '{given[name].text_column}'"
            return f"the parts were begun with the text column {columns}"
    return None


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "(none)"
    return "(none)" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
