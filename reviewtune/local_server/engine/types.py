"""The interface between server and engine: plain data, without torch.

The server uses these types and four functions:
    base_models.ensure.ensure(name, cache)     -> folder of a converted base model (fetches it once)
    training.finetune.resolve(spec)            -> Hyperparameters, `auto` replaced by numbers
    training.finetune.train(spec, report)      -> TrainingResult, calling report(News)
    generation.generate.load(folder, base)     -> Generator, whose `complete(requests)` answers a batch
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

ADAPTER_CONFIG = "adapter_config.json"  # in the folder of a model that is an adapter
RESUME = "resume.safetensors"  # in a training's output folder: the state to resume from; useless when it is done

FinishReason = Literal["stop", "length"]
# Called while an answer is written, from the thread that runs the model.
Listener = Callable[["Progress"], None]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function by the model; `arguments` is JSON text, incomplete while it is written."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatMessage:
    role: str  # system, developer, user, assistant, tool
    content: str
    calls: tuple[ToolCall, ...] = ()  # of an assistant


@dataclass(frozen=True, slots=True)
class Function:
    """A function that the model may know of."""

    name: str
    description: str | None
    parameters: str  # the JSON schema of its arguments, as JSON text


@dataclass(frozen=True, slots=True)
class Tools:
    """The functions of a request, and how the answer may call them.

    Attributes:
        functions: what the model is shown.
        allowed: the names of those that it may call.
        required: whether the answer must be a call.
        several: whether there may be more than one call, if the model's format has a way to write that.
    """

    functions: tuple[Function, ...]
    allowed: tuple[str, ...]
    required: bool = False
    several: bool = True


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One question for a model, already validated against the API's limits: a conversation, or a prompt as it is."""

    messages: tuple[ChatMessage, ...] = ()
    prompt: str | tuple[int, ...] | None = None  # instead of messages: the model's whole input, as text or tokens
    score_prompt: bool = False  # also report the log-probabilities of the prompt's tokens
    max_tokens: int | None = None  # None: up to the model's context; 0: nothing is written
    temperature: float = 1.0
    top_p: float = 1.0
    n: int = 1
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None  # JSON schema that the answer must match, unless it is a call
    tools: Tools | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    presence_penalty: float = 0.0  # subtracted from the score of each token that the answer contains
    frequency_penalty: float = 0.0  # the same, once per occurrence
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # token id -> number added to its score
    listener: Listener | None = None  # receives the answer while it is generated


class ContextLengthExceeded(ValueError):  # noqa: N818 - named as OpenAI's error code is
    """A prompt that leaves no room for an answer in the model's context."""

    def __init__(self, limit: int, got: int) -> None:
        super().__init__(f"the prompt has {got} tokens, the model's context holds {limit}, answer included; shorten it")
        self.limit, self.got = limit, got


class UnknownToken(ValueError):  # noqa: N818 - not a fault of the program
    """A token id in `logit_bias` that is not in the model's vocabulary."""

    def __init__(self, token: int, vocabulary: int) -> None:
        super().__init__(f"{token} is not a token of this model; its ids are 0 to {vocabulary - 1}")


class UnknownPromptToken(UnknownToken):
    """The same in a prompt that is given as tokens."""


class UnsupportedSchema(ValueError):  # noqa: N818 - not a fault of the program
    """A JSON schema that answers cannot be constrained to; the message gives the reason.

    Attributes:
        function: the name of the function whose arguments it describes, if any.
    """

    def __init__(self, reason: str, function: str | None = None) -> None:
        super().__init__(reason)
        self.function = function


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of an answer with its log-probability, and the most likely tokens in its place (`top`)."""

    token: str
    logprob: float
    bytes: tuple[int, ...]
    top: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """One choice of an answer."""

    text: str
    finish_reason: FinishReason
    completion_tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()  # of all its tokens but the first, if the request wants them


@dataclass(frozen=True, slots=True)
class Progress:
    """One choice of an answer as far as it is written."""

    choice: int
    text: str
    logprobs: Sequence[TokenLogprob] = ()
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """The answer to one request."""

    prompt_tokens: int
    cached_tokens: int  # of the prompt's tokens, those taken from a cached prefix
    choices: tuple[Generation, ...]
    prompt: bytes = b""  # the text of a prompt that was given as it is, in UTF-8


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """One supervised fine-tune. None means `auto`."""

    base: Path  # folder of the weights to start from
    training_file: Path  # chat JSONL
    validation_file: Path | None
    output: Path  # folder for the finished model and checkpoints/step-N
    seed: int
    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    adapter: Path | None = None  # folder of an adapter of these weights to continue from
    whole: bool = False  # save all weights instead of an adapter, for a base that may be deleted


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The numbers that a training uses."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """Metrics of one step.

    Losses are the mean cross-entropy per trained token, in nats; accuracies are shares in [0, 1].
    """

    step: int  # from 1
    total_steps: int
    epoch: int  # from 1
    train_loss: float
    train_mean_token_accuracy: float
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None  # at the end of an epoch
    full_valid_mean_token_accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """A complete, usable model at the end of an epoch."""

    metrics: StepMetrics
    folder: Path


@dataclass(frozen=True, slots=True)
class DiskFull:
    """A checkpoint could not be written for lack of space; the training waits for it."""

    folder: Path  # of the training's output
    epoch: int  # that cannot be saved, from 1


News = StepMetrics | CheckpointSaved | DiskFull


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The outcome of a training."""

    folder: Path  # the finished model
    trained_tokens: int  # tokens in the training file x epochs, as OpenAI bills them
    hyperparameters: Hyperparameters
    steps: int
    peak_memory_bytes: int
    wall_seconds: float
