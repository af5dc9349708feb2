"""Build an openai client: `with connect(config.provider) as client:`. All clients are built here.

For the local provider it uses the server that serves the account folder, or starts one, which shuts down after
IDLE_EXIT_SECONDS without a request. Errors inside the `with` are raised as a ProviderError of one line.
"""

import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import openai
from filelock import FileLock

from reviewtune.core.config import ProviderConfig
from reviewtune.core.user_dirs import SERVER_LOG, account_folder
from reviewtune.errors import ProviderError
from reviewtune.providers.model_names import is_finetuned

IDLE_EXIT_SECONDS = 120
START_SECONDS = 60
LOCAL_KEY = "local"  # the openai client needs some key, but the local server has none by default


class Served(NamedTuple):
    """A running local server; `models` is empty if it requires a different key."""

    address: str
    models: list[str]


@contextmanager
def connect(provider: ProviderConfig) -> Iterator[openai.OpenAI]:
    """An openai client for this provider, ready to use.

    Raises:
        ProviderError: no key, no server, a refused key, an unknown model, or limits that outlast the retries.
    """
    with _one_line(provider), _build(provider) as client:
        yield client


def asynchronous(client: openai.OpenAI, provider: ProviderConfig, http: httpx2.AsyncClient) -> openai.AsyncOpenAI:
    """A client with the same address, key and time-out for many requests at once; retries are left to the caller."""
    limits: dict[str, Any] = {"max_retries": 0, "timeout": client.timeout, "http_client": http}
    if isinstance(client, openai.AzureOpenAI):
        endpoint, version = _azure_address(provider)
        return openai.AsyncAzureOpenAI(azure_endpoint=endpoint, api_version=version, api_key=client.api_key, **limits)
    return openai.AsyncOpenAI(base_url=client.base_url, api_key=client.api_key, **limits)


@cache
def certificates() -> ssl.SSLContext:
    """Cached, because reading them takes 28 ms, a hundred times the rest of a client."""
    return httpx2.create_ssl_context()


def _build(provider: ProviderConfig) -> openai.OpenAI:
    limits: dict[str, Any] = {
        "max_retries": provider.max_retries,
        "timeout": openai.Timeout(provider.timeout, connect=10.0),
        "http_client": openai.DefaultHttpxClient(verify=certificates()),
    }
    if provider.kind == "local":
        key = os.environ.get("REVIEWTUNE_API_KEY") or LOCAL_KEY
        return openai.OpenAI(base_url=provider.base_url or _local_address(provider.base_model), api_key=key, **limits)
    if provider.kind == "azure":
        return _azure(provider, limits)
    return openai.OpenAI(base_url=provider.base_url, api_key=_key(provider), **limits)


def _azure(provider: ProviderConfig, limits: dict[str, Any]) -> openai.OpenAI:
    endpoint, version = _azure_address(provider)
    return openai.AzureOpenAI(azure_endpoint=endpoint, api_version=version, api_key=_key(provider), **limits)


def _azure_address(provider: ProviderConfig) -> tuple[str, str]:
    endpoint = provider.base_url or os.environ.get("AZURE_OPENAI_ENDPOINT")
    version = os.environ.get("OPENAI_API_VERSION")
    for value, name in ((endpoint, "AZURE_OPENAI_ENDPOINT"), (version, "OPENAI_API_VERSION")):
        if not value:
            raise ProviderError(f"provider azure: the variable {name} is not set; set it, or choose provider=local")
    assert endpoint is not None
    assert version is not None
    return endpoint, version


def _key(provider: ProviderConfig) -> str:
    """The key from the environment; it is never logged, stored or put into an error message."""
    if provider.api_key_env is None:
        return LOCAL_KEY
    if key := os.environ.get(provider.api_key_env):
        return key
    raise ProviderError(
        f"provider {provider.kind}: no key: the variable {provider.api_key_env} is not set; "
        f"`export {provider.api_key_env}=...`, or choose provider=local, which needs none"
    )


def _local_address(base_model: str) -> str:
    """The base URL of the server of the account folder, which is started if necessary.

    Raises:
        ProviderError: the server does not start, or the running one does not offer the base model.
    """
    folder = account_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "start.lock"):  # so that two stages at once start one server
        address, offered = _running(folder) or _start(folder, base_model)
    if offered and base_model not in offered:
        raise ProviderError(
            f"the local provider at {address} does not offer '{base_model}', only {', '.join(offered)}; a server "
            f"that reviewtune started shuts down after {IDLE_EXIT_SECONDS} s without requests: run the same command "
            f"again then; or stop your own server and run `reviewtune provider serve --base-model {base_model}`"
        )
    return address


def _running(folder: Path) -> Served | None:
    try:
        address = str(json.loads((folder / "server.json").read_text())["base_url"])
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return None
    models = _models(address)
    return None if models is None else Served(address, models)


def _models(address: str) -> list[str] | None:
    """Names of the models that a server offers; None if it does not answer, [] if it requires a different key."""
    key = os.environ.get("REVIEWTUNE_API_KEY") or LOCAL_KEY
    with openai.OpenAI(base_url=address, api_key=key, max_retries=0, timeout=10) as client:
        try:
            return [model.id for model in client.models.list()]
        except openai.AuthenticationError:
            return []  # the real request will report it
        except openai.APIError:
            return None


def _start(folder: Path, base_model: str) -> Served:
    command = [sys.executable, "-m", "reviewtune.local_server", "--port", "0", "--data-dir", str(folder.absolute())]
    output = folder.absolute() / SERVER_LOG
    command += ["--idle-exit", str(IDLE_EXIT_SECONDS), "--log-file", str(output)]
    if not is_finetuned(base_model):
        command += ["--base-model", base_model]
    # Not in the current folder, because DVC removes temporary workspaces, and torch does not start in a folder that
    # does not exist. Only a base model with a relative path must be found from here.
    place = None if Path(base_model).is_dir() and not Path(base_model).is_absolute() else folder
    with output.open("ab") as log:  # output outside of the log: a crash, messages of libraries
        # In a separate session, so that Ctrl-C in the terminal stops the command but not the training it started.
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, cwd=place
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if served := _running(folder):
            return served
        time.sleep(0.1)
    process.terminate()
    raise ProviderError(
        f"the local provider did not start: {_last_line(output)}; to see why, run `{' '.join(command)}`"
    )


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"{log} is empty"


@contextmanager
def _one_line(provider: ProviderConfig) -> Iterator[None]:
    """Raise the openai client's errors as a ProviderError of one line."""
    who = f"provider {provider.kind}"
    try:
        yield
    except openai.APITimeoutError as error:
        raise ProviderError(f"{who}: no answer within {provider.timeout:g} s; raise provider.timeout") from error
    except openai.APIConnectionError as error:
        where = provider.base_url or getattr(error.request, "url", "its address")
        raise ProviderError(f"{who}: {where} cannot be reached; start it or correct provider.base_url") from error
    except openai.AuthenticationError as error:
        name = provider.api_key_env or "REVIEWTUNE_API_KEY"
        raise ProviderError(f"{who}: the key in {name} was refused; check the variable") from error
    except openai.APIStatusError as error:
        raise ProviderError(f"{who}: {_message(error)}; {_advice(error, provider)}") from error


def _message(error: openai.APIStatusError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return f"HTTP {error.status_code}: {' '.join(str(body.get('message', error.message)).split())}"


def _advice(error: openai.APIStatusError, provider: ProviderConfig) -> str:
    if error.code == "training_not_available":
        return "OpenAI does not offer fine-tuning to this organisation: choose provider=local"
    if error.status_code == 404 or error.param == "model":
        question = f"is provider.base_model={provider.base_model} right, and is the fine-tuned model still there?"
        again = " `dvc repro --force --single-item finetune` trains it again if its weights are gone"
        return question + (again if provider.kind == "local" else "")
    if error.status_code == 429:
        return "lower provider.concurrency, check the account's limits, and run the same command again"
    if error.status_code >= 500:
        return "the error is on the provider's side; run the same command again"
    return "fix the request; this one cost nothing"
