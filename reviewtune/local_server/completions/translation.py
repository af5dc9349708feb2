"""Translation between OpenAI's completions and the engine, for requests and for the lines of batches."""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from openai.types import Completion, CompletionChoice, CompletionUsage
from openai.types.completion_choice import Logprobs

from reviewtune.local_server.chat import translation as chats
from reviewtune.local_server.completions.requests import MAX_ANSWERS, MAX_TOKENS, CompletionRequest
from reviewtune.local_server.engine.types import Generation, GenerationRequest, GenerationResult, TokenLogprob
from reviewtune.local_server.protocol.api_errors import ApiError
from reviewtune.local_server.storage.tables import now

CONTINUATION = range(0x80, 0xC0)  # bytes inside a character in UTF-8


def generation_requests(request: CompletionRequest) -> list[GenerationRequest]:
    """What the engine gets: a request per prompt.

    Raises:
        ApiError: 400, parameters contradict each other or are not supported together.
    """
    _check_combinations(request)
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    return [
        GenerationRequest(
            prompt=prompt,
            score_prompt=bool(request.echo) and request.logprobs is not None,
            max_tokens=MAX_TOKENS if request.max_tokens is None else request.max_tokens,
            temperature=1.0 if request.temperature is None else request.temperature,
            top_p=1.0 if request.top_p is None else request.top_p,
            n=request.n or 1,
            seed=request.seed,
            stop=tuple(text for text in stop if text),
            logprobs=request.logprobs is not None,
            top_logprobs=request.logprobs or 0,
            presence_penalty=request.presence_penalty or 0.0,
            frequency_penalty=request.frequency_penalty or 0.0,
            logit_bias={int(token): bias for token, bias in (request.logit_bias or {}).items()},
        )
        for prompt in request.prompts
    ]


def _check_combinations(request: CompletionRequest) -> None:
    choices = request.n or 1
    if len(request.prompts) * choices > MAX_ANSWERS:
        message = f"One request can have {MAX_ANSWERS} answers: prompts times n. For more use /v1/batches."
        raise ApiError(400, message, param="prompt", code="array_above_max_length")
    if request.best_of is not None and request.best_of != choices:
        message = "'best_of' other than 'n' is not supported by the local provider; ask for more choices with 'n'."
        raise ApiError(400, message, param="best_of", code="unsupported_parameter")
    if request.stream_options is not None and not request.stream:
        message = "'stream_options' is only allowed with 'stream'."
        raise ApiError(400, message, param="stream_options", code="invalid_value")
    if request.stream and request.echo and not _can_echo_first(request):
        message = "'echo' cannot be streamed with 'logprobs', or if the prompt is tokens; leave out 'stream'."
        raise ApiError(400, message, param="echo", code="unsupported_parameter")


def _can_echo_first(request: CompletionRequest) -> bool:
    """Whether the echo is known before the model runs."""
    return request.logprobs is None and all(isinstance(prompt, str) for prompt in request.prompts)


def new_completion_id() -> str:
    """A new id of a completion."""
    return f"cmpl-{secrets.token_hex(14)}"


def completion(request: CompletionRequest, results: Sequence[GenerationResult]) -> Completion:
    """The completion as the API shows it: the choices of the first prompt, then those of the next one."""
    pairs = [(result, choice) for result in results for choice in result.choices]
    return Completion(
        id=new_completion_id(),
        object="text_completion",
        created=now(),
        model=request.model,
        choices=[_choice(request, index, *pair) for index, pair in enumerate(pairs)],
        usage=usage(results),
    )


def _choice(request: CompletionRequest, index: int, result: GenerationResult, choice: Generation) -> CompletionChoice:
    echo = result.prompt.decode(errors="replace") if request.echo else ""
    scores = None
    if request.logprobs is not None:
        before = _prompt_tokens(result.prompt, choice.prompt_logprobs) if request.echo else []
        scores = logprobs([*before, *scored(choice.logprobs)])
    return CompletionChoice.construct(
        index=index, text=echo + choice.text, finish_reason=choice.finish_reason, logprobs=scores
    )


def usage(results: Iterable[GenerationResult]) -> CompletionUsage:
    """Token counts of all prompts and answers as the API shows them."""
    first, *others = map(chats.usage, results)
    for other in others:
        first.prompt_tokens += other.prompt_tokens
        first.completion_tokens += other.completion_tokens
        first.total_tokens += other.total_tokens
        if first.prompt_tokens_details and other.prompt_tokens_details:
            cached = (first.prompt_tokens_details.cached_tokens or 0, other.prompt_tokens_details.cached_tokens or 0)
            first.prompt_tokens_details.cached_tokens = sum(cached)
    return first


class ScoredToken(NamedTuple):
    """A token of a text; the first one of a prompt has no log-probability."""

    bytes: bytes
    logprob: float | None
    top: dict[str, float] | None


def scored(tokens: Iterable[TokenLogprob]) -> Iterator[ScoredToken]:
    """The tokens of an answer. The most likely tokens always include the one that was chosen."""
    for token in tokens:
        chosen = {_shown(bytes(token.bytes)): token.logprob}
        top = {_shown(bytes(other.bytes)): other.logprob for other in token.top}
        yield ScoredToken(bytes(token.bytes), token.logprob, top | chosen)


def _prompt_tokens(prompt: bytes, tokens: Sequence[TokenLogprob]) -> list[ScoredToken]:
    """The tokens of the prompt; one that the tokenizer put before the text is not part of it."""
    rest = sum(len(token.bytes) for token in tokens)
    first = prompt[: max(0, len(prompt) - rest)]
    return [*([ScoredToken(first, None, None)] if first else []), *scored(tokens)]


def logprobs(tokens: Sequence[ScoredToken], offset: int = 0) -> Logprobs:
    """Log-probabilities as the API shows them.

    Args:
        tokens: the tokens.
        offset: the number of characters of the answer before them.
    """
    lengths = [sum(byte not in CONTINUATION for byte in token.bytes) for token in tokens]
    return Logprobs.construct(
        tokens=[_shown(token.bytes) for token in tokens],
        token_logprobs=[token.logprob for token in tokens],
        top_logprobs=[token.top for token in tokens],
        text_offset=list(accumulate(lengths, initial=offset))[:-1],
    )


def _shown(token: bytes) -> str:
    """A token's text; one that is a part of a character is shown by its bytes, as at OpenAI."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)


def renamed(error: ApiError) -> ApiError:
    """An error about a chat, with the name that its parameter has here."""
    if error.param == "messages":
        error.param = "prompt"
    return error


def body_of(item: Any) -> dict[str, Any]:  # noqa: ANN401 - an object of the openai package
    """Its JSON. Choices and scores may hold null where the package's types expect a value, as OpenAI's do."""
    content: dict[str, Any] = item.model_dump(mode="json", warnings=False)
    return content
