"""What a client may send to /v1/completions."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from reviewtune.local_server.chat.requests import StreamOptions, TokenId
from reviewtune.local_server.schemas.items import Items
from reviewtune.local_server.schemas.strict_models import Strict, neutral

MAX_ANSWERS = 128  # of one request: prompts x n
MAX_TOKENS = 16  # of an answer without a limit, as at OpenAI

Texts = Annotated[Items[str], Field(min_length=1, max_length=MAX_ANSWERS)]
Tokens = Annotated[Items[Annotated[int, Field(ge=0, le=2**31 - 1)]], Field(min_length=1)]
TokenLists = Annotated[Items[Tokens], Field(min_length=1, max_length=MAX_ANSWERS)]


def _kind(prompt: object) -> str:
    """What a prompt is by its first item, so that an error is about that form only."""
    if not isinstance(prompt, list):
        return "text"
    if not prompt or isinstance(prompt[0], str):
        return "texts"
    return "token lists" if isinstance(prompt[0], list) else "tokens"


Prompt = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[Texts, Tag("texts")]
    | Annotated[Tokens, Tag("tokens")]
    | Annotated[TokenLists, Tag("token lists")],
    Discriminator(_kind),
]


class CompletionRequest(Strict):
    model: str
    prompt: Prompt
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_ANSWERS)] | None = None
    best_of: Annotated[int, Field(ge=1, le=20)] | None = None  # only the number that is n
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: str | Annotated[Items[str], Field(max_length=4)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[TokenId, Annotated[float, Field(ge=-100, le=100)]] | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None  # does not change the answer
    suffix: Annotated[Any, neutral("", instead="the model continues a text, it does not fill a gap")] = None

    @property
    def prompts(self) -> Sequence[str | tuple[int, ...]]:
        """The prompts, each as text or as tokens."""
        match self.prompt:
            case str():
                return (self.prompt,)
            case [int(), *_]:
                return (tuple(self.prompt),)  # type: ignore[arg-type]  # mypy does not narrow by the first item
        return [prompt if isinstance(prompt, str) else tuple(prompt) for prompt in self.prompt]  # type: ignore[arg-type]
