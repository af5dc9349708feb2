"""The routes below /v1/files: upload, list, read and delete."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, UploadFile
from fastapi.responses import FileResponse
from openai.types import FileDeleted

from reviewtune.local_server.files.requests import AnchorField, Order, PurposeField, SecondsField, only_known_fields
from reviewtune.local_server.files.service import file_object, file_path, get_file, save_upload, unexpired
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.protocol.pagination import Cursor, dump, listing, read_page
from reviewtune.local_server.storage.account import CurrentAccount
from reviewtune.local_server.storage.tables import File

router = APIRouter(prefix="/v1/files", tags=["files"])


@router.post("", dependencies=[Depends(only_known_fields)])
def create(
    account: CurrentAccount,
    file: UploadFile,
    purpose: PurposeField,
    anchor: AnchorField = None,
    seconds: SecondsField = None,
) -> dict[str, Any]:
    if (anchor is None) != (seconds is None):
        message = "'expires_after' needs both anchor and seconds."
        raise ApiError(400, message, param="expires_after", code="invalid_value")
    row = save_upload(account, file.file, file.filename or "upload", purpose, lifetime=seconds)
    return dump(file_object(row))


@router.get("")
def list_(
    account: CurrentAccount,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Order = "desc",
    purpose: str | None = None,
) -> dict[str, Any]:
    conditions = [File.purpose == purpose] if purpose else []
    with account.database.reading() as session:
        rows, more = read_page(session, File, Cursor(after, limit, order == "asc"), unexpired(), *conditions)
    return listing([file_object(row) for row in rows], more)


@router.get("/{file_id}")
def retrieve(account: CurrentAccount, file_id: str) -> dict[str, Any]:
    with account.database.reading() as session:
        return dump(file_object(get_file(session, file_id)))


@router.get("/{file_id}/content")
def content(account: CurrentAccount, file_id: str) -> FileResponse:
    with account.database.reading() as session:
        file = get_file(session, file_id)
    return FileResponse(file_path(account, file), media_type="application/octet-stream", filename=file.filename)


@router.delete("/{file_id}")
def remove(account: CurrentAccount, file_id: str) -> dict[str, Any]:
    with account.database.writing() as session:
        file = get_file(session, file_id)
        session.delete(file)
    file_path(account, file).unlink(missing_ok=True)
    return dump(FileDeleted(id=file.id, deleted=True, object="file"))
