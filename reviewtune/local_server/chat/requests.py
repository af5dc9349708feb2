"""What a client may send to /v1/chat/completions."""

from typing import Annotated, Any, Literal

from pydantic import Field

from reviewtune.local_server.schemas.messages import NO_AUDIO, NO_TOOLS, USE_A_SCHEMA, Message, TextPart
from reviewtune.local_server.schemas.strict_models import Metadata, Strict, neutral

TokenId = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,8})$")]


class TextFormat(Strict):
    type: Literal["text"]


class JsonObjectFormat(Strict):
    type: Literal["json_object"]


class JsonSchema(Strict):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class JsonSchemaFormat(Strict):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class StreamOptions(Strict):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # no padding is added either way


class Prediction(Strict):
    """Text that the answer is likely to contain, which OpenAI uses to answer faster."""

    type: Literal["content"]
    content: str | list[TextPart]


class ChatRequest(Strict):
    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[TokenId, Annotated[float, Field(ge=-100, le=100)]] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")] | None = (
        None
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # These do not change the answer.
    metadata: Metadata | None = None
    parallel_tool_calls: bool | None = None  # has no effect without tools
    prediction: Prediction | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    safety_identifier: str | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    store: bool | None = None
    user: str | None = None
    # Not supported: only values that change nothing are accepted.
    audio: Annotated[Any, NO_AUDIO] = None
    function_call: Annotated[Any, neutral("none", instead=USE_A_SCHEMA)] = None
    functions: Annotated[Any, NO_TOOLS] = None
    modalities: Annotated[Any, neutral(["text"], instead="the model writes text only")] = None
    moderation: Annotated[Any, neutral()] = None
    tool_choice: Annotated[Any, neutral("none", instead=USE_A_SCHEMA)] = None
    tools: Annotated[Any, NO_TOOLS] = None
    verbosity: Annotated[Any, neutral("medium", instead="ask for short or long answers in a message")] = None
    web_search_options: Annotated[Any, neutral(instead="the model has no access to the web")] = None
