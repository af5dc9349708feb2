"""What a client may send to /v1/responses."""

from typing import Annotated, Any, Literal

from pydantic import Field

from reviewtune.local_server.responses.items import InputItem, only_types
from reviewtune.local_server.schemas.items import Items
from reviewtune.local_server.schemas.strict_models import Metadata, Strict, Verbosity, neutral
from reviewtune.local_server.schemas.tools import MAX_TOOLS, FunctionDefinition

MIN_OUTPUT_TOKENS = 16  # as at OpenAI
LOGPROBS = "message.output_text.logprobs"
ReasoningText = Literal["reasoning.encrypted_content"]  # of models that reason; here there is none to include
Summary = Literal["auto", "concise", "detailed"]
SEND_THE_INPUT = "send the conversation as 'input', or name the response before as 'previous_response_id'"


class TextFormat(Strict):
    type: Literal["text"]


class JsonObjectFormat(Strict):
    type: Literal["json_object"]


class JsonSchemaFormat(Strict):
    type: Literal["json_schema"]
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


class TextConfig(Strict):
    format: Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Verbosity | None = None


class FunctionTool(FunctionDefinition):
    type: Literal["function"]
    defer_loading: Annotated[Any, neutral(False)] = None


class NamedFunction(Strict):
    type: Literal["function"]
    name: str


class AllowedTools(Strict):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[Items[NamedFunction], Field(min_length=1)]


class Reasoning(Strict):
    """The model does not reason, so any effort is the same, and there is nothing to summarize."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Summary | None = None
    generate_summary: Summary | None = None


class StreamOptions(Strict):
    include_obfuscation: bool | None = None  # no padding is added either way


class ResponseInput(Strict):
    """What the model reads, for an answer or to count its tokens."""

    model: str
    input: str | Annotated[Items[InputItem], Field(min_length=1)]
    instructions: str | None = None
    previous_response_id: str | None = None
    text: TextConfig | None = None
    tools: Annotated[Items[Annotated[FunctionTool, only_types("function")]], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: (
        Literal["none", "auto", "required"]
        | Annotated[NamedFunction | AllowedTools, Field(discriminator="type")]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None  # changes nothing
    conversation: Annotated[Any, neutral(instead=SEND_THE_INPUT)] = None
    truncation: Annotated[Any, neutral("disabled", instead="a conversation that is too long is an error")] = None


class TokenCountRequest(ResponseInput):
    input: str | Annotated[Items[InputItem], Field(min_length=1)] = ""
    personality: Annotated[Any, neutral(instead="put it into 'instructions'")] = None


class ResponseRequest(ResponseInput):
    store: bool | None = None
    max_output_tokens: Annotated[int, Field(ge=MIN_OUTPUT_TOKENS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    include: Items[Literal["message.output_text.logprobs"] | ReasoningText] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: Metadata | None = None
    # These do not change the answer.
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None  # of OpenAI's own tools
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    safety_identifier: str | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    user: str | None = None
    # Not supported: only values that change nothing are accepted.
    background: Annotated[Any, neutral(False, instead="an answer comes in its request; for many use /v1/batches")] = (
        None
    )
    background_options: Annotated[Any, neutral()] = None
    context_management: Annotated[Any, neutral([])] = None
    image: Annotated[Any, neutral(instead="the model reads and writes text only")] = None
    moderation: Annotated[Any, neutral()] = None
    prompt: Annotated[Any, neutral(instead=SEND_THE_INPUT)] = None

    @property
    def with_logprobs(self) -> bool:
        return LOGPROBS in (self.include or [])
