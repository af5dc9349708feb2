"""Chat completions: from a client's request to the engine's, and from the engine's answer to OpenAI's.

`plan`, `completion` and `refusal_of` serve the lines of a batch as well.
"""

import asyncio
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionMessage, ChatCompletionTokenLogprob
from openai.types.chat.chat_completion import Choice, ChoiceLogprobs
from openai.types.chat.chat_completion_token_logprob import TopLogprob
from openai.types.completion_usage import CompletionTokensDetails, PromptTokensDetails

from reviewtune.errors import ReviewtuneError
from reviewtune.local_server.account import Open
from reviewtune.local_server.chat_stream import stream_lines
from reviewtune.local_server.dispatcher import Dispatcher
from reviewtune.local_server.engine.types import (
    ChatMessage,
    ContextLengthExceeded,
    Generation,
    GenerationRequest,
    GenerationResult,
    TokenLogprob,
    UnsupportedSchema,
)
from reviewtune.local_server.models import source_of
from reviewtune.local_server.pages import dump
from reviewtune.local_server.refusals import Refusal, server_error
from reviewtune.local_server.schemas import ChatRequest, JsonObjectFormat, JsonSchemaFormat
from reviewtune.local_server.store import now

router = APIRouter(prefix="/v1/chat/completions", tags=["chat"])


def _of_request(request: Request) -> Dispatcher:
    dispatcher: Dispatcher = request.app.state.dispatcher
    return dispatcher


@router.post("")
async def create(account: Open, dispatcher: Annotated[Dispatcher, Depends(_of_request)], body: ChatRequest) -> Response:
    planned = plan(body)
    source = await run_in_threadpool(source_of, account, body.model)
    try:
        (answer,) = await asyncio.wrap_future(dispatcher.submit(source, [planned]))
    except ReviewtuneError as error:
        raise unavailable(error) from error
    if isinstance(answer, Exception):
        raise refusal_of(answer)
    whole = completion(body, answer)
    if not body.stream:
        return JSONResponse(dump(whole))
    with_usage = bool(body.stream_options and body.stream_options.include_usage)
    return StreamingResponse(stream_lines(whole, with_usage), media_type="text/event-stream")


def plan(request: ChatRequest) -> GenerationRequest:
    """What the engine is asked for; refuses combinations that make no sense."""
    if request.top_logprobs is not None and not request.logprobs:
        raise Refusal(400, "'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs", code="invalid_value")
    if request.stream_options is not None and not request.stream:
        message = "'stream_options' is only allowed with 'stream'."
        raise Refusal(400, message, param="stream_options", code="invalid_value")
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    return GenerationRequest(
        messages=tuple(ChatMessage(message.role, message.text) for message in request.messages),
        max_tokens=request.max_completion_tokens or request.max_tokens,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        n=request.n or 1,
        seed=request.seed,
        stop=tuple(text for text in stop if text),
        schema=_schema(request),
        logprobs=bool(request.logprobs),
        top_logprobs=request.top_logprobs or 0,
    )


def _schema(request: ChatRequest) -> dict[str, Any] | None:
    match request.response_format:
        case JsonObjectFormat():
            return {"type": "object"}
        case JsonSchemaFormat(json_schema=wanted):
            return wanted.schema_
    return None


def completion(request: ChatRequest, result: GenerationResult) -> ChatCompletion:
    return ChatCompletion(
        id=f"chatcmpl-{secrets.token_hex(12)}",
        object="chat.completion",
        created=now(),
        model=request.model,
        choices=[_choice(index, choice, request) for index, choice in enumerate(result.choices)],
        usage=_usage(result),
        service_tier="default",
    )


def _choice(index: int, generation: Generation, request: ChatRequest) -> Choice:
    logprobs = ChoiceLogprobs(content=[_logprob(token) for token in generation.logprobs])
    return Choice(
        index=index,
        message=ChatCompletionMessage(role="assistant", content=generation.text, annotations=[]),
        finish_reason=generation.finish_reason,
        logprobs=logprobs if request.logprobs else None,
    )


def _logprob(token: TokenLogprob) -> ChatCompletionTokenLogprob:
    top = [TopLogprob(token=other.token, logprob=other.logprob, bytes=list(other.bytes)) for other in token.top]
    return ChatCompletionTokenLogprob(
        token=token.token, logprob=token.logprob, bytes=list(token.bytes), top_logprobs=top
    )


def _usage(result: GenerationResult) -> CompletionUsage:
    written = sum(choice.completion_tokens for choice in result.choices)
    return CompletionUsage(
        prompt_tokens=result.prompt_tokens,
        completion_tokens=written,
        total_tokens=result.prompt_tokens + written,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=result.cached_tokens, audio_tokens=0),
        completion_tokens_details=CompletionTokensDetails(
            reasoning_tokens=0, audio_tokens=0, accepted_prediction_tokens=0, rejected_prediction_tokens=0
        ),
    )


def unavailable(error: ReviewtuneError) -> Refusal:
    """The model can't be loaded, for a reason that the user can mend and a retry can't."""
    refusal = Refusal(503, str(error), type_="server_error", code="model_unavailable")
    refusal.headers = {"x-should-retry": "false"}
    return refusal


def refusal_of(error: Exception) -> Refusal:
    """What a client is told when the engine could not answer its request."""
    match error:
        case Refusal():
            return error
        case ContextLengthExceeded():
            message = f"This model's maximum context length is {error.limit} tokens, but {error}."
            return Refusal(400, message, param="messages", code="context_length_exceeded")
        case UnsupportedSchema():
            message = f"Invalid schema for response_format: {error}"
            return Refusal(400, message, param="response_format", code="invalid_json_schema")
        case ReviewtuneError():  # the model's chat template refuses these messages
            return Refusal(400, str(error), param="messages", code="invalid_value")
    return server_error(f"The model failed on this request ({type(error).__name__}: {error}).")
