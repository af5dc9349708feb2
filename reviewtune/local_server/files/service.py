"""Files: their rows and their contents on disk."""

import hashlib
import secrets
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import IO

from openai.types import FileObject
from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.orm import Session

from reviewtune.local_server.protocol import strict_json
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.storage.account import Account
from reviewtune.local_server.storage.tables import File, now

CHUNK = 1 << 20
LONGEST_LINE = 16 << 20  # bytes; the longest example that OpenAI takes, 65,536 tokens, has about half a million
JSONL_PURPOSES = ("fine-tune", "batch")
BATCH_LIFETIME = 30 * 24 * 3600  # seconds, where an upload for a batch names none
UPLOADS_A_MINUTE = 1000
ACCOUNT_BYTES = 2_500_000_000_000  # of all files together


def file_object(row: File) -> FileObject:
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
    return session.scalar(select(File).where(File.id == file_id, _alive()))


def file_path(account: Account, file: File) -> Path:
    return account.settings.files / file.id


def add_file(account: Account, session: Session, content: Path, *, name: str, purpose: str, **columns: object) -> File:
    """Record a file that lies ready on disk and move it to its place; `content` is gone afterwards."""
    with content.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    columns = {"id": new_file_id(), "created_at": now(), "expires_at": None, **columns}
    file = File(bytes=content.stat().st_size, sha256=sha256, filename=name, purpose=purpose, **columns)
    content.replace(file_path(account, file))
    session.add(file)
    return file


def new_file_id() -> str:
    return f"file-{secrets.token_hex(12)}"


def forget_expired(account: Account) -> None:
    """Remove what has expired, and what a crash has left on disk without a row."""
    with account.database.writing() as session:
        session.execute(delete(File).where(File.expires_at <= now()))
        known = set(session.scalars(select(File.id)))
    for path in account.settings.files.iterdir():
        if path.name not in known and path.stat().st_mtime < now() - 3600:
            path.unlink(missing_ok=True)


def _alive() -> ColumnElement[bool]:
    return or_(File.expires_at.is_(None), File.expires_at > now())


def _refuse_beyond_limits(session: Session, size: int) -> None:
    """OpenAI's limits on an account; they keep a program that has run wild from filling the disk."""
    recent = session.scalar(select(func.count()).where(File.created_at > now() - 60)) or 0
    if recent >= UPLOADS_A_MINUTE:
        message = f"Rate limit reached for requests: {UPLOADS_A_MINUTE} uploads a minute. Please try again in 60s."
        refusal = ApiError(429, message, code="rate_limit_exceeded", type_="requests")
        refusal.headers = {"Retry-After": "60"}
        raise refusal
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
    """Refuse at once what can never be trained on; whether each line is an example is the job's to say."""
    for number, line in numbered_lines(path):
        try:
            fits = isinstance(strict_json.loads(line), dict)
        except ValueError:
            fits = False
        if not fits:
            message = f"Expected file to have JSONL format, where every line is a JSON object. Line {number} is not."
            raise ApiError(400, message, param="file", code="invalid_file_format")


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, counted from 1, in the memory of one line whatever the file's shape.

    Of a line beyond LONGEST_LINE it is only the beginning, which parses as none.
    """
    with path.open("rb") as stream:
        for number in count(1):
            line = stream.readline(LONGEST_LINE)
            if not line:
                return
            rest = line
            while len(rest) == LONGEST_LINE and not rest.endswith(b"\n"):
                rest = stream.readline(LONGEST_LINE)
            if stripped := line.strip():
                yield number, stripped


def _existing(session: Session, file_id: str) -> File:
    file = find_file(session, file_id)
    if file is None:
        raise ApiError(404, f"No such File object: {file_id}", param="id")
    return file
