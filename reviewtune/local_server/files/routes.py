"""Files: uploaded in pieces to disk, listed, read, deleted, and forgotten once they expire."""

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse
from openai.types import FileDeleted

from reviewtune.local_server.files.service import (
    BATCH_LIFETIME,
    JSONL_PURPOSES,
    _alive,
    _check_jsonl,
    _existing,
    _refuse_beyond_limits,
    _save,
    add_file,
    file_object,
    file_path,
    new_file_id,
)
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.protocol.pagination import Cursor, dump, listing, read_page
from reviewtune.local_server.protocol.request_checks import refuse_unknown_fields
from reviewtune.local_server.storage.account import CurrentAccount
from reviewtune.local_server.storage.tables import File

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]

router = APIRouter(prefix="/v1/files", tags=["files"])


async def _known_fields(request: Request) -> None:
    await refuse_unknown_fields(request, "file", "purpose", "expires_after[anchor]", "expires_after[seconds]")


@router.post("", dependencies=[Depends(_known_fields)])
def create(
    account: CurrentAccount,
    file: UploadFile,
    purpose: Annotated[Purpose, Form()],
    anchor: Annotated[Literal["created_at"] | None, Form(alias="expires_after[anchor]")] = None,
    seconds: Annotated[int | None, Form(alias="expires_after[seconds]", ge=3600, le=2_592_000)] = None,
) -> dict[str, Any]:
    if (anchor is None) != (seconds is None):
        raise ApiError(
            400, "'expires_after' needs both anchor and seconds.", param="expires_after", code="invalid_value"
        )
    name = Path(file.filename or "upload").name
    if purpose in JSONL_PURPOSES and not name.endswith(".jsonl"):
        raise ApiError(400, f"Invalid file format for {purpose}: {name!r}. Must be .jsonl.", param="file")
    part = account.settings.files / f".{new_file_id()}.part"
    try:
        _save(file.file, part)
        if purpose == "fine-tune":
            _check_jsonl(part)
        with account.database.writing() as session:
            _refuse_beyond_limits(session, part.stat().st_size)
            row = add_file(account, session, part, name=name, purpose=purpose)
            lifetime = BATCH_LIFETIME if seconds is None and purpose == "batch" else seconds
            row.expires_at = None if lifetime is None else row.created_at + lifetime
    finally:
        part.unlink(missing_ok=True)
    return dump(file_object(row))


@router.get("")
def list_(
    account: CurrentAccount,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: str | None = None,
) -> dict[str, Any]:
    wanted = [File.purpose == purpose] if purpose else []
    with account.database.reading() as session:
        rows, more = read_page(session, File, Cursor(after, limit, order == "asc"), _alive(), *wanted)
    return listing([file_object(row) for row in rows], more)


@router.get("/{file_id}")
def retrieve(account: CurrentAccount, file_id: str) -> dict[str, Any]:
    with account.database.reading() as session:
        return dump(file_object(_existing(session, file_id)))


@router.get("/{file_id}/content")
def content(account: CurrentAccount, file_id: str) -> FileResponse:
    with account.database.reading() as session:
        file = _existing(session, file_id)
    return FileResponse(file_path(account, file), media_type="application/octet-stream", filename=file.filename)


@router.delete("/{file_id}")
def remove(account: CurrentAccount, file_id: str) -> dict[str, Any]:
    with account.database.writing() as session:
        file = _existing(session, file_id)
        session.delete(file)
    file_path(account, file).unlink(missing_ok=True)
    return dump(FileDeleted(id=file.id, deleted=True, object="file"))
