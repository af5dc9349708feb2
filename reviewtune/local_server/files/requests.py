"""The form fields of an upload to /v1/files."""

from typing import Annotated, Literal

from fastapi import Form, Request

from reviewtune.local_server.protocol.request_checks import refuse_unknown_fields

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
Order = Literal["asc", "desc"]
PurposeField = Annotated[Purpose, Form()]
AnchorField = Annotated[Literal["created_at"] | None, Form(alias="expires_after[anchor]")]
SecondsField = Annotated[int | None, Form(alias="expires_after[seconds]", ge=3600, le=2_592_000)]


async def only_known_fields(request: Request) -> None:
    """Refuse form fields that OpenAI's API does not have."""
    await refuse_unknown_fields(request, "file", "purpose", "expires_after[anchor]", "expires_after[seconds]")
