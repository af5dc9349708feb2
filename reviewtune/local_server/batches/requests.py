"""What a client may send to /v1/batches, and a line of a batch's input file."""

from typing import Annotated, Any, Literal

from pydantic import Field

from reviewtune.local_server.schemas.strict_models import Metadata, Strict


class ExpiresAfter(Strict):
    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class BatchRequest(Strict):
    input_file_id: str
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/responses", "/chat/completions"]  # Azure's last
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None


class BatchLine(Strict):
    """One line of the input file."""

    custom_id: Annotated[str, Field(min_length=1)]
    method: Literal["POST"]
    url: str
    body: dict[str, Any]
