"""Turn the openai client's errors into a ProviderError of one line: the server's own words and what to do."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import openai

from reviewtune.core.config.provider import LEFT_OUT_BY, ProviderConfig
from reviewtune.errors import ProviderError
from reviewtune.providers.address import key_variable
from reviewtune.providers.responses.json_text import UnreadableError
from reviewtune.providers.responses.server_words import words_of
from reviewtune.providers.retry_policy import asked_pause

ABSENT = (404, 405, 501)  # how servers say that they do not have a part of the protocol
WORDINGS = {
    "response_format": r"response_?\s?format|json_?\s?schema|structured|guided|grammar",
    "logprobs": r"log_?\s?prob",
    "temperature": r"temperature",
    "seed": r"\bseed",
    "max_completion_tokens": r"max_(completion_|new_)?tokens",
}
"""How servers name these parameters."""


@contextmanager
def one_line(provider: ProviderConfig) -> Iterator[None]:
    """Raise the openai client's errors as a ProviderError of one line."""
    who = f"provider {provider.kind}"
    try:
        yield
    except openai.APITimeoutError as error:
        remedy = "raise provider.timeout, or lower provider.concurrency"
        raise ProviderError(f"{who}: no answer within {provider.timeout:g} s; {remedy}") from error
    except openai.APIConnectionError as error:
        where = provider.base_url or getattr(error.request, "url", "its address")
        raise ProviderError(f"{who}: {where} cannot be reached; start it or correct provider.base_url") from error
    except openai.AuthenticationError as error:
        words = _without_key(words_of(error.body), provider)
        seen = f" ({words})" if words else ""
        raise ProviderError(f"{who}: {_refused_key(provider)}{seen}") from error
    except openai.APIStatusError as error:
        message = f"{who}: {status_and_words(error)}; {advice(error, provider)}"
        raise ProviderError(_without_key(message, provider)) from error
    except UnreadableError as error:
        raise ProviderError(
            f"{who}: the server sent {error}; is provider.base_url right? If it is, run the same command again"
        ) from error


def _refused_key(provider: ProviderConfig) -> str:
    name = key_variable(provider)
    if name and os.environ.get(name, "").strip():
        return f"the key in {name} was refused; check the variable"
    if provider.kind == "local":
        return f"its server was started with a key: set {name} to that key, or stop the server"
    return "the server needs a key: set provider.api_key_env to the name of a variable that holds it"


def _without_key(message: str, provider: ProviderConfig) -> str:
    """The message without the API key, which some servers repeat."""
    key = os.environ.get(key_variable(provider) or "", "").strip()
    return message.replace(key, "[API KEY]") if key else message


def status_and_words(error: openai.APIStatusError) -> str:
    """Such as `HTTP 400: seed is not supported`."""
    words = words_of(error.body) or error.response.reason_phrase or "no reason was given"
    return f"HTTP {error.status_code}: {words}"


def lacks(error: openai.APIStatusError, *paths: str) -> bool:
    """Whether the server does not have one of these paths of the protocol, such as `/files`.

    A 404 on an object below the path, or one that is about the model, says nothing about the path.
    """
    path = error.request.url.path.rstrip("/")
    about_model = error.param == "model" or error.code == "model_not_found"
    return error.status_code in ABSENT and path.endswith(paths) and not about_model


@contextmanager
def part_of_protocol(path: str) -> Iterator[None]:
    """Continue without a part of the protocol if the server does not have it, such as `/events`."""
    try:
        yield
    except openai.APIStatusError as error:
        if not lacks(error, path):
            raise


def advice(error: openai.APIStatusError, provider: ProviderConfig) -> str:
    """What to do about an error."""
    if error.code == "training_not_available":
        return "OpenAI does not offer fine-tuning to this organisation: choose provider=local"
    if lacks(error, "/fine_tuning/jobs", "/files"):
        address = str(error.request.url.copy_with(query=None))
        return (
            f"this provider has no fine-tuning ({address}): choose another one, such as provider=local, and give an "
            "arm this one to measure it with a prompt; if it has fine-tuning, correct provider.base_url"
        )
    if error.status_code == 404 or error.param == "model":
        question = f"is provider.base_model={provider.base_model} right, and is the fine-tuned model still there?"
        again = " `dvc repro --force --single-item finetune` trains it again if its weights are gone"
        return question + (again if provider.kind == "local" else "")
    if error.status_code == 429:
        seconds = asked_pause(error)
        when = f" in {seconds:.0f} s, as the provider asks" if seconds else ""
        return f"lower provider.concurrency, check the account's limits, and run the same command again{when}"
    if error.status_code >= 500:
        return "the error is on the provider's side; run the same command again"
    if error.request.url.path.rstrip("/").endswith("/chat/completions"):
        return about_parameters(f"{words_of(error.body)} {error.param or ''}")
    return "fix the request; this one cost nothing"


def about_parameters(words: str) -> str:
    """Which setting leaves out the parameter that a server refuses; all of them if its words name none."""
    named = [name for name, wording in WORDINGS.items() if re.search(wording, words, re.IGNORECASE)]
    settings = "; ".join(f"provider.{'='.join(LEFT_OUT_BY[name])} for {name}" for name in named or WORDINGS)
    if named:
        return f"if the server does not accept {' or '.join(named)}, leave it out with {settings}"
    return f"if it is about a parameter that the server does not know, leave that out: {settings}"
