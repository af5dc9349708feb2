"""Upload the files of a fine-tuning job, each once, and wait until the provider has processed them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import openai
from openai.types import FileObject

from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.data.reviews import sha256
from reviewtune.errors import JobError
from reviewtune.providers.responses.polling import Polling

NO_STATUS, PROCESSED, UNUSABLE = "", ("processed",), ("error", "failed", "deleted")  # of a file
PROCESSING_SECONDS = 600.0  # how long to wait until a file is processed
LONGEST_PAUSE, PAUSE_SHARE = 5.0, 1 / 10  # of the waiting for a file

Uploaded = Mapping[tuple[str, int], FileObject]  # by name and bytes


def upload(client: openai.OpenAI, paths: Sequence[Path], *, progress: Progress = SILENT) -> list[str]:
    """The ids of these files at the provider, which gets only those that it does not have yet.

    Args:
        client: a client of the provider.
        paths: chat files.
        progress: receives a message if a file is not processed at once.

    Raises:
        JobError: the provider could not read a file.
    """
    uploaded = {
        (file.filename, file.bytes): file
        for file in client.files.list(purpose="fine-tune")
        if str(file.status) not in UNUSABLE
    }
    return [_upload(client, path, uploaded, progress).id for path in paths]


def _upload(client: openai.OpenAI, path: Path, uploaded: Uploaded, progress: Progress) -> FileObject:
    """The file at the provider: one with its size and a name that holds its hash, or a new upload."""
    name = f"{path.stem}-{sha256(path)[:16]}{path.suffix}"
    existing = uploaded.get((name, path.stat().st_size))
    if existing:
        return existing
    with path.open("rb") as stream:  # streamed, because a file may be larger than the free memory
        new = client.files.create(file=(name, stream), purpose="fine-tune")
    return _processed(client, new, progress)


def _processed(client: openai.OpenAI, file: FileObject, progress: Progress) -> FileObject:
    """Wait until the provider has read the file, but not for ever, as the job waits for it too.

    Raises:
        JobError: the provider could not read the file.
    """
    polling = Polling(f"file {file.id}", longest=LONGEST_PAUSE, share=PAUSE_SHARE)
    while (status := str(file.status)) not in (NO_STATUS, *PROCESSED, *UNUSABLE):
        if polling.seconds > PROCESSING_SECONDS:
            progress.message(
                f"file {file.id} is still {status} after {polling.seconds:.0f} s; the job will wait for it"
            )
            break
        if not polling.count:
            progress.message(
                f"file {file.id}: {status}; waiting up to {PROCESSING_SECONDS:.0f} s until it is processed"
            )
        polling.wait(status)
        file = client.files.retrieve(file.id)
    if status in UNUSABLE:
        raise JobError(f"file {file.id} of {file.filename}: {status}: {file.status_details or 'no reason was given'}")
    return file
