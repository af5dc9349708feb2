"""Functions that a model can call, and its calls: shared by chats, responses, batches and training files."""

from typing import Annotated, Any, Literal

from pydantic import Field

from reviewtune.local_server.schemas.items import Items
from reviewtune.local_server.schemas.strict_models import Strict

MAX_TOOLS = 128
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class FunctionDefinition(Strict):
    """A function; `parameters` is the JSON schema of its arguments."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None  # arguments always match the schema; true also checks OpenAI's rules for it


class Tool(Strict):
    type: Literal["function"]
    function: FunctionDefinition


class CalledFunction(Strict):
    """A call; `arguments` is JSON text, as a model wrote it."""

    name: str
    arguments: str


class CalledTool(Strict):
    id: str
    type: Literal["function"]
    function: CalledFunction


ToolList = Annotated[Items[Tool], Field(max_length=MAX_TOOLS)]
FunctionList = Annotated[Items[FunctionDefinition], Field(max_length=MAX_TOOLS)]
