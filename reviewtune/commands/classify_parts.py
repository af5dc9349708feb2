"""The command `classify` for files of any size: read as a stream, written in parts into a folder."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from reviewtune.commands.classify import NO_LABEL, SHOWN, Asked, analyzer_for, print_labels, refuse_without_confidence
from reviewtune.core.formatting import counted
from reviewtune.core.outputs import STANDARD_OUTPUT
from reviewtune.core.terminal.progress import TerminalProgress
from reviewtune.data.tables import XLSX
from reviewtune.errors import ConfigError

if TYPE_CHECKING:  # imports pyarrow, which takes 0.8 s and is not needed for one file
    from reviewtune.analyzer.classifier import Classifier
    from reviewtune.bulk.manifest import Manifest
    from reviewtune.bulk.part_maker import MakeParts
    from reviewtune.bulk.parts import Format

PARQUET, RAY = ".parquet", "ray"
FORMATS: "tuple[Format, ...]" = ("parquet", "csv")
FILE_ENDINGS = (".csv", ".tsv", XLSX, PARQUET)


class PartOptions(NamedTuple):
    """How the parts look, and where they are made.

    Attributes:
        keep: columns that are copied.
        kind: format; None: Parquet.
        rows: of each part; None: as usual.
        on: `ray`; None: in this process.
        address: of the Ray cluster; None: Ray is started on this machine.
    """

    keep: tuple[str, ...]
    kind: str | None
    rows: int | None
    on: str | None = None
    address: str | None = None

    @property
    def format(self) -> "Format":
        """The format.

        Raises:
            ConfigError: there is no such format.
        """
        found = next((known for known in FORMATS if known == (self.kind or FORMATS[0])), None)
        if found is None:
            raise ConfigError(f"--format {self.kind}: the formats are {' and '.join(FORMATS)}")
        return found

    def refuse_for_a_file(self, out: Path) -> None:
        """Refuse options of parts, if one file is written.

        Raises:
            ConfigError: there are such options.
        """
        given = {"--keep": bool(self.keep), "--format": self.kind is not None, "--part-rows": self.rows is not None}
        given |= {"--on": self.on is not None, "--address": self.address is not None}
        if names := [name for name, is_given in given.items() if is_given]:
            raise ConfigError(
                f"{names[0]} is for parts, but --out {out} is a file, which has all columns; name a folder with --out, "
                f"or leave out {', '.join(names)}"
            )

    def refuse_other_places(self) -> None:
        """Refuse to make parts anywhere but here and on Ray, and an address of nothing.

        Raises:
            ConfigError: with what is allowed, or with the command that installs Ray.
        """
        if self.on not in (None, RAY):
            raise ConfigError(f"--on {self.on}: only --on {RAY} is known; leave it out to use this process alone")
        if self.address is not None and self.on is None:
            raise ConfigError(f"--address {self.address} is that of a Ray cluster; add --on {RAY}, or leave it out")
        if self.on == RAY:
            from reviewtune.bulk.on_ray import ENTRANCE
            from reviewtune.sweeps.ray_cluster import refuse_without_ray

            refuse_without_ray(ENTRANCE)


def are_wanted(file: Path, out: Path) -> bool:
    """Whether parts are to be written: from a folder or a Parquet file, or into a folder.

    A name that does not exist is a folder if it has no ending.
    """
    if out in STANDARD_OUTPUT:
        return file.is_dir()
    into_folder = out.suffix.lower() not in FILE_ENDINGS if out.is_dir() else not out.exists() and not out.suffix
    return into_folder or file.is_dir() or file.suffix.lower() == PARQUET


def classify(
    file: Path,
    out: Path,
    how: Asked,
    options: PartOptions,
    *,
    text_column: str | None,
    confidence: bool,
    has_unsure: bool,
) -> None:
    """Write parts into the folder `out`, and print the counts.

    Args:
        file: a CSV, a Parquet file, or a folder of them.
        out: the folder.
        how: which model is asked, and how.
        options: how the parts look.
        text_column: the column with the reviews; None: the one that conf/data names.
        confidence: whether a model without confidence is refused.
        has_unsure: whether --unsure-to was given, which is refused.

    Raises:
        ConfigError: options do not go together.
        DataError: a file cannot be read, or the folder cannot be used.
    """
    from reviewtune.bulk.part_folder import refuse_unfit
    from reviewtune.bulk.run import PART_ROWS, Work, run
    from reviewtune.bulk.sources import find_sources

    how.refuse_contradictions()
    options.refuse_other_places()
    _refuse_for_parts(out, has_unsure=has_unsure)
    refuse_unfit(out)
    kind, progress = options.format, TerminalProgress()
    sources, left_out = find_sources(file, how.columns(), text_column=text_column, keep=options.keep)
    if left_out:
        progress.message(left_out)
    analyzer = analyzer_for(how, progress=progress)
    if confidence:
        refuse_without_confidence(analyzer, how)
    classifier = analyzer.pinned()
    with _making(options, classifier, progress) as make:
        work = Work(
            sources=sources,
            classifier=classifier,
            folder=out,
            keep=options.keep,
            kind=kind,
            part_rows=options.rows or PART_ROWS,
            make=make,
        )
        manifest = run(work, progress)
    _print_result(manifest, out)


@contextmanager
def _making(options: PartOptions, classifier: "Classifier", progress: TerminalProgress) -> "Iterator[MakeParts]":
    """What makes the parts: this process, or a Ray cluster for as long as the block lasts."""
    if options.on is None:
        from reviewtune.bulk.part_maker import make_here

        yield make_here
        return
    from reviewtune.bulk.on_ray import on_ray

    with on_ray(classifier, options.address, progress) as make:
        yield make


def _refuse_for_parts(out: Path, *, has_unsure: bool) -> None:
    if has_unsure:
        raise ConfigError("--unsure-to needs a file as --out; parts have the column `sure`, by which you can select")
    if out in STANDARD_OUTPUT or (out.suffix.lower() in FILE_ENDINGS and not out.is_dir()):
        raise ConfigError(f"--out {out}: a folder and a Parquet file are classified in parts; name a folder for them")


def _print_result(manifest: "Manifest", out: Path) -> None:
    failed = {NO_LABEL: manifest.failed} if manifest.failed else {}
    print_labels({**manifest.labels, **failed}, sys.stdout)
    parts = counted(len(manifest.parts), "part")
    print(f"{counted(manifest.rows, 'row')} in {parts} and manifest.json, written to {out}")
    if manifest.failed:
        lines = [f"{row.file} line {row.line}: {row.why}" for row in manifest.failed_rows[:SHOWN]]
        more = [f"and {manifest.failed - len(lines)} more"] if manifest.failed > len(lines) else []
        note = f"no label for {manifest.failed} of {counted(manifest.rows, 'row')}, see the column `error`:"
        print(note, *lines, *more, sep="\n  ", file=sys.stderr)
    if manifest.unanswered:
        print(f"{manifest.unanswered} of them got no answer: the same command asks about them again", file=sys.stderr)
