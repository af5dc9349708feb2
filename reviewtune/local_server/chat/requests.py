"""What a client may send to /v1/chat/completions."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from reviewtune.local_server.chat.tool_requests import FunctionName, ToolChoice
from reviewtune.local_server.schemas.items import Items
from reviewtune.local_server.schemas.messages import NO_AUDIO, Message, TextPart
from reviewtune.local_server.schemas.strict_models import Metadata, Strict, Verbosity, neutral
from reviewtune.local_server.schemas.tools import FunctionList, ToolList

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
    content: str | Items[TextPart]


class ChatRequest(Strict):
    model: str
    messages: Annotated[Items[Message], Field(min_length=1)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: str | Annotated[Items[str], Field(max_length=4)] | None = None
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
    tools: ToolList | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None  # has no effect without tools
    functions: FunctionList | None = None  # the legacy form of tools
    function_call: Literal["none", "auto"] | FunctionName | None = None  # the legacy form of tool_choice
    # These do not change the answer.
    metadata: Metadata | None = None
    prediction: Prediction | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    safety_identifier: str | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    store: bool | None = None
    user: str | None = None
    verbosity: Verbosity | None = None
    # Not supported: only values that change nothing are accepted.
    audio: Annotated[Any, NO_AUDIO] = None
    modalities: Annotated[Any, neutral(["text"], instead="the model writes text only")] = None
    moderation: Annotated[Any, neutral()] = None
    web_search_options: Annotated[Any, neutral(instead="the model has no access to the web")] = None

    @model_validator(mode="after")
    def _one_form_of_tools(self) -> Self:
        if self.legacy and (self.tools or self.tool_choice):
            message = "it is the older form of 'tools' and 'tool_choice'; give only one of both"
            param = "functions" if self.functions else "function_call"
            raise PydanticCustomError("invalid_value", message, {"param": param})
        return self

    @property
    def legacy(self) -> bool:
        """Whether the client speaks the older form, in which an answer has one `function_call`."""
        return bool(self.functions or self.function_call)
