"""Uploaded and generated files: their rows in the database, their contents on disk, and their limits."""

import codecs
import hashlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from openai.types import FileObject
from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.orm import Session

from reviewtune.core.text_files import JSON_SPACE, read_lines
from reviewtune.local_server.engine.base_models.model_folder import link_or_copy
from reviewtune.local_server.files.requests import Purpose
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.schemas import strict_json
from reviewtune.local_server.storage.account import Account
from reviewtune.local_server.storage.tables import File, now

CHUNK = 1 << 20  # bytes that are copied at a time
LONGEST_LINE = 16 << 20  # bytes; OpenAI's longest example, 65,536 tokens, has about half a million
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
JSONL_PURPOSES = ("fine-tune", "batch")
BATCH_LIFETIME = 30 * 24 * 3600  # seconds, for a batch's input file that names no lifetime
UPLOADS_A_MINUTE = 1000
ACCOUNT_BYTES = 2_500_000_000_000  # of all files together
ORPHAN_SECONDS = 3600  # age at which a file on disk without a row is removed


def file_object(row: File) -> FileObject:
    """The file as the API shows it."""
    return FileObject.construct(
        id=row.id,
        object="file",
        bytes=row.bytes,
        created_at=row.created_at,
        filename=row.filename,
        purpose=row.purpose,
        status="processed",
        expires_at=row.expires_at,
        status_details=None,
    )


def find_file(session: Session, file_id: str) -> File | None:
    """The file, or None if it does not exist or has expired."""
    return session.scalar(select(File).where(File.id == file_id, unexpired()))


def get_file(session: Session, file_id: str) -> File:
    """The file.

    Raises:
        ApiError: 404, it does not exist or has expired.
    """
    file = find_file(session, file_id)
    if file is None:
        raise ApiError(404, f"No such File object: {file_id}", param="id")
    return file


def unexpired() -> ColumnElement[bool]:
    """SQL condition: the file has not expired."""
    return or_(File.expires_at.is_(None), File.expires_at > now())


def file_path(account: Account, file: File) -> Path:
    """Where a file's content is on disk."""
    return account.settings.files / file.id


def link_file(account: Account, file: File, target: Path) -> None:
    """Give a job or batch its own hold on a file's content, so that deleting the file does not break it."""
    link_or_copy(file_path(account, file), target)


def save_upload(account: Account, stream: IO[bytes], filename: str, purpose: Purpose, lifetime: int | None) -> File:
    """Store an upload and record it.

    Args:
        account: the account that gets the file.
        stream: the content, read in chunks.
        filename: as the client sent it; only its last part is kept.
        purpose: what the file is for; files for training and for batches must be JSONL.
        lifetime: seconds until it expires, or None for the purpose's default.

    Raises:
        ApiError: the content or its name is not allowed, or a limit of the account is reached.
    """
    name = Path(filename).name
    if purpose in JSONL_PURPOSES and not name.endswith(".jsonl"):
        raise ApiError(400, f"Invalid file format for {purpose}: {name!r}. Must be .jsonl.", param="file")
    part = account.settings.files / f".{_new_id()}.part"
    try:
        _save(stream, part)
        if purpose == "fine-tune":
            _check_jsonl(part)
        with account.database.writing() as session:
            _check_limits(session, part.stat().st_size)
            row = add_file(account, session, part, name=name, purpose=purpose)
            seconds = BATCH_LIFETIME if lifetime is None and purpose == "batch" else lifetime
            row.expires_at = None if seconds is None else row.created_at + seconds
    finally:
        part.unlink(missing_ok=True)
    return row


def add_file(account: Account, session: Session, content: Path, *, name: str, purpose: str, **columns: object) -> File:
    """Record a complete file and move it to its place.

    Args:
        account: the account that gets the file.
        session: an open transaction.
        content: the file on disk; it no longer exists afterwards.
        name: the file name that clients see.
        purpose: the purpose that clients see.
        **columns: other columns of the row, instead of their defaults.
    """
    with content.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    columns = {"id": _new_id(), "created_at": now(), "expires_at": None, **columns}
    file = File(bytes=content.stat().st_size, sha256=sha256, filename=name, purpose=purpose, **columns)
    content.replace(file_path(account, file))
    session.add(file)
    return file


def forget_expired(account: Account) -> None:
    """Remove expired files, and files on disk that a crash left without a row."""
    with account.database.writing() as session:
        session.execute(delete(File).where(File.expires_at <= now()))
        known = set(session.scalars(select(File.id)))
    for path in account.settings.files.iterdir():
        is_own = path.name.removeprefix(".").startswith("file-")  # the folder may have been there before the account
        if is_own and path.name not in known and path.stat().st_mtime < now() - ORPHAN_SECONDS:
            path.unlink(missing_ok=True)


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers from 1, in the memory of one line.

    A line longer than LONGEST_LINE is cut off there, so it is not valid JSON.
    """
    for number, line in read_lines(path, longest=LONGEST_LINE):
        if stripped := line.strip(JSON_SPACE.encode()):
            yield number, stripped


def _new_id() -> str:
    return f"file-{secrets.token_hex(12)}"


def _check_limits(session: Session, size: int) -> None:
    """Apply OpenAI's limits on an account; they keep a program that loops from filling the disk."""
    recent = session.scalar(select(func.count()).where(File.created_at > now() - 60)) or 0
    if recent >= UPLOADS_A_MINUTE:
        message = f"Rate limit reached for requests: {UPLOADS_A_MINUTE} uploads a minute. Please try again in 60s."
        error = ApiError(429, message, code="rate_limit_exceeded", type_="requests")
        error.headers = {"Retry-After": "60"}
        raise error
    if (session.scalar(select(func.sum(File.bytes))) or 0) + size > ACCOUNT_BYTES:
        message = f"The files of this account may hold {ACCOUNT_BYTES:,} bytes together: delete some first."
        raise ApiError(400, message, param="file", code="storage_limit_exceeded")


def _save(source: IO[bytes], part: Path) -> None:
    size = 0
    with part.open("wb") as target:
        while chunk := source.read(CHUNK):
            size += target.write(chunk)
    if not size:
        raise ApiError(400, "The file is empty.", param="file", code="empty_file")


def _check_jsonl(path: Path) -> None:
    """Refuse what can never be trained on; the job checks later whether each line is an example."""
    for number, line in numbered_lines(path):
        try:
            is_object = isinstance(strict_json.loads(line), dict)
        except ValueError:
            is_object = False
        if not is_object:
            message = f"Expected file to have JSONL format, where every line is a JSON object. Line {number} is not."
            message += " The file is UTF-16: save it as UTF-8." if line.startswith(UTF_16) else ""
            raise ApiError(400, message, param="file", code="invalid_file_format")
