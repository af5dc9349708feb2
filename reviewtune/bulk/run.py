"""Classify all rows of the files, part by part, from where an earlier command was interrupted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reviewtune.analyzer.classifier import Classifier
from reviewtune.bulk.blocks import Block, blocks
from reviewtune.bulk.manifest import FinishedPart, InputFile, Manifest, Model, Options, write_manifest
from reviewtune.bulk.part_folder import begun, known_files, part_folder
from reviewtune.bulk.part_maker import MakeParts, PartMaker, Place, make_here
from reviewtune.bulk.parts import Format, Part, columns_with, name_of, write_part
from reviewtune.bulk.sources import Content, Source
from reviewtune.core.formatting import counted
from reviewtune.core.terminal.progress import SILENT, Progress, Step

PART_ROWS = 50_000


@dataclass(frozen=True, kw_only=True)
class Work:
    """What to do.

    Args:
        sources: the files.
        classifier: what classifies; its answers are kept in the cache of answers.
        folder: of the parts.
        keep: columns of the files that are copied.
        kind: format of the parts.
        part_rows: rows of each part, at least 1.
        make: makes the parts.
    """

    sources: Sequence[Source]
    classifier: Classifier
    folder: Path
    keep: tuple[str, ...] = ()
    kind: Format = "parquet"
    part_rows: int = PART_ROWS
    make: MakeParts = make_here


def run(work: Work, progress: Progress = SILENT) -> Manifest:
    """Classify the rows that are not in a finished part.

    A killed command leaves its finished parts and the manifest. The same command continues: it asks nothing about
    finished parts, and a model of a provider not about answers in the cache. Parts with rows that got no answer,
    because the provider failed for them alone, are made again.

    Args:
        work: what to do.
        progress: receives messages, and the number of rows with the time left.

    Returns:
        The manifest of all parts.

    Raises:
        DataError: the folder cannot be used, a file cannot be read or was changed, or a part cannot be written.
        ProviderError: the provider failed; the finished parts are kept.
        BudgetError: the next request could cost more than is left of evaluation.budget_usd.
    """
    columns_with(work.keep)
    with part_folder(work.folder):
        manifest = _without_unanswered(begun(work.folder, _wanted(work)), work.folder, progress)
        if manifest.complete:
            progress.message(f"{work.folder}: {counted(manifest.rows, 'row')} are classified already, nothing is asked")
            return manifest
        if manifest.parts:
            done = counted(len(manifest.parts), "finished part")
            progress.message(f"{work.folder}: continuing after {done} with {counted(manifest.rows, 'row')}")
        with progress.bar("classifying", total=_about(manifest)) as step:
            step(manifest.rows)
            manifest = _classified(work, manifest, progress, step)
    return manifest


def _without_unanswered(manifest: Manifest, folder: Path, progress: Progress) -> Manifest:
    """Without the parts that have rows without an answer, so that they are made again; known answers are cached."""
    again = [part for part in manifest.parts if part.unanswered]
    if again:
        rows = counted(sum(part.unanswered for part in again), "row")
        progress.message(f"{folder}: {rows} got no answer before; making {counted(len(again), 'part')} again")
        manifest = manifest.without({part.name for part in again})
        write_manifest(manifest, folder)  # first: a part is replaced before the manifest names it again
    return manifest


def _classified(work: Work, manifest: Manifest, progress: Progress, step: Step) -> Manifest:
    expected = [file.rows for file in manifest.files]

    def read_whole(index: int, rows: int) -> None:
        expected[index] = rows
        step(total=sum(expected))

    read = blocks(work.sources, work.part_rows, start=manifest.end, read_whole=read_whole)
    names = tuple(file.name for file in manifest.files)
    maker = PartMaker(work.classifier, names, work.keep, work.kind)
    for place, part in work.make(maker, _missing(read, manifest, work.kind), progress, step):
        _refuse_changed(work.sources, manifest, place)
        manifest = _with_part(work, manifest, place, part)
        write_manifest(manifest, work.folder)
    manifest = manifest.model_copy(update={"complete": True})
    write_manifest(manifest, work.folder)
    return manifest


def _missing(read: Iterator[Block], manifest: Manifest, kind: Format) -> Iterator[tuple[str, Block]]:
    """The blocks whose parts are not finished, with the names of these."""
    finished = {part.name for part in manifest.parts}
    for number, block in enumerate(read, start=manifest.unbroken):
        if (name := name_of(number, kind)) not in finished:
            yield name, block


def _with_part(work: Work, manifest: Manifest, place: Place, part: Part) -> Manifest:
    """The manifest with this part, which is written first."""
    write_part(part.content, work.folder / place.name)
    finished = FinishedPart(
        name=place.name,
        size=len(part.content),
        rows=part.rows,
        labels=part.labels,
        failed=len(part.failures),
        unanswered=part.unanswered,
        end_file=place.end.file,
        end_rows=place.end.rows,
    )
    return manifest.with_part(finished, part.failures)


def _refuse_changed(sources: Sequence[Source], manifest: Manifest, place: Place) -> None:
    """Refuse a part whose files were changed after the beginning."""
    for index in place.files:
        file = manifest.files[index]
        sources[index].refuse_changed(file.size, file.changed_at)


def _wanted(work: Work) -> Manifest:
    """The manifest without parts. A file of an earlier manifest that was not written since is not read again."""
    before = known_files(work.folder)
    known = {(file.name, file.size, file.changed_at): file for file in before.files} if before else {}
    files = []
    for source in work.sources:
        name = source.path.name
        file = known.get((name, *source.stamp()))
        content = source.content() if file is None else Content(file.sha256, file.size, file.changed_at, file.rows)
        files.append(InputFile(name=name, text_column=source.text, **content._asdict()))
    options = Options(format=work.kind, part_rows=work.part_rows, keep=work.keep)
    return Manifest(version=1, model=Model.of(work.classifier.identity), options=options, files=tuple(files))


def _about(manifest: Manifest) -> int:
    """The number of rows, as far as it is known before they are read."""
    return sum(file.rows for file in manifest.files)
