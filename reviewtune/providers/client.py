"""Build an openai client: `with connect(config.provider) as client:`. All clients are built here.

For the local provider it uses the server that serves the account folder, or starts one (`local.account_server`). Errors
inside the `with` are raised as a ProviderError of one line.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpx2
import openai

from reviewtune.core.config import ProviderConfig
from reviewtune.core.loopback import is_loopback
from reviewtune.errors import ProviderError
from reviewtune.providers.local.account_server import OWN_KEY_ENV, local_address, no_certificates
from reviewtune.providers.model_names import is_finetuned

LOCAL_KEY = "local"  # the openai client needs some key, but the local server has none by default


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
    limits |= _headers(provider, client.api_key)
    return openai.AsyncOpenAI(base_url=client.base_url, api_key=client.api_key, **limits)


def http_options(provider: ProviderConfig, address: str) -> dict[str, Any]:
    """How an HTTP client reaches this address: through the proxies of the environment, but never to this machine.

    Raises:
        ProviderError: the certificates that the environment names cannot be read.
    """
    here = is_loopback(address) or (provider.kind == "local" and provider.base_url is None)
    if not here:
        return {"verify": certificates()}
    # Without TLS, no certificates are needed: those of SSL_CERT_FILE may not even exist.
    return {"verify": certificates() if address.startswith("https:") else no_certificates(), "trust_env": False}


@cache
def certificates() -> ssl.SSLContext:
    """Cached, because reading them takes 28 ms, a hundred times the rest of a client."""
    try:
        return httpx2.create_ssl_context()
    except OSError as error:
        name = "SSL_CERT_FILE" if os.environ.get("SSL_CERT_FILE") else "SSL_CERT_DIR"
        raise ProviderError(
            f"the certificates in {name}={os.environ.get(name)} cannot be read ({error.strerror or error}); "
            "correct the variable, or unset it"
        ) from error


def _build(provider: ProviderConfig) -> openai.OpenAI:
    if provider.kind == "azure":
        return _azure(provider)
    key = _key(provider)
    address = provider.base_url
    if provider.kind == "local" and address is None:
        address = local_address(provider.base_model, key, is_finetuned(provider.base_model))
    return openai.OpenAI(
        base_url=address, api_key=key, **_limits(provider, address or _openai_address()), **_headers(provider, key)
    )


def _azure(provider: ProviderConfig) -> openai.OpenAI:
    endpoint, version = _azure_address(provider)
    limits = _limits(provider, endpoint)
    return openai.AzureOpenAI(azure_endpoint=endpoint, api_version=version, api_key=_key(provider), **limits)


def _openai_address() -> str:
    """Where the openai client goes that is given no address."""
    return os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"


def _limits(provider: ProviderConfig, address: str) -> dict[str, Any]:
    return {
        "max_retries": provider.max_retries,
        "timeout": openai.Timeout(provider.timeout, connect=10.0),
        "http_client": _http_client(provider, address),
    }


def _http_client(provider: ProviderConfig, address: str) -> httpx2.Client:
    try:
        return openai.DefaultHttpxClient(**http_options(provider, address))
    except (ValueError, ImportError, httpx2.InvalidURL) as error:  # how httpx2 refuses a proxy's address
        raise ProviderError(
            f"the proxy settings of the environment (HTTPS_PROXY, ALL_PROXY, NO_PROXY) cannot be used for {address}: "
            f"{error}; correct them"
        ) from error


def _headers(provider: ProviderConfig, key: str) -> dict[str, Any]:
    """Headers that override those of the openai client's variables, which are for OpenAI.

    OPENAI_ORG_ID and OPENAI_PROJECT_ID name an organisation at OpenAI. OPENAI_CUSTOM_HEADERS may also be for another
    hosted provider, but never for a server of this machine, whose key they would replace.
    """
    if provider.kind == "openai":
        return {}
    omitted: dict[str, Any] = dict.fromkeys(("OpenAI-Organization", "OpenAI-Project"), openai.Omit())
    if provider.kind != "local" and not is_loopback(provider.base_url or ""):
        return {"default_headers": omitted}
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    names = [line.partition(":")[0].strip() for line in lines if ":" in line]
    omitted |= {name: openai.Omit() for name in names if name.lower() != "authorization"}
    return {"default_headers": omitted | {"Authorization": f"Bearer {key}"}}


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
    name = OWN_KEY_ENV if provider.kind == "local" else provider.api_key_env
    key = os.environ.get(name, "").strip() if name else ""  # `$(cat FILE)` is clean, a .env file or a secret may not be
    if not key and (name is None or provider.kind == "local"):
        return LOCAL_KEY
    if not key:
        raise ProviderError(
            f"provider {provider.kind}: no key: the variable {name} is not set; "
            f"`export {name}=...`, or choose provider=local, which needs none"
        )
    if not (key.isascii() and key.isprintable()):
        raise ProviderError(f"the variable {name} has characters that no key has; set it again")
    return key


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
        raise ProviderError(f"{who}: {_refused_key(provider)}") from error
    except openai.APIStatusError as error:
        raise ProviderError(f"{who}: {_message(error)}; {_advice(error, provider)}") from error


def _refused_key(provider: ProviderConfig) -> str:
    name = provider.api_key_env or OWN_KEY_ENV
    if os.environ.get(name, "").strip():
        return f"the key in {name} was refused; check the variable"
    if provider.kind == "local":
        return f"its server was started with a key: set {name} to that key, or stop the server"
    return "the server needs a key: set provider.api_key_env to the name of a variable that holds it"


def _message(error: openai.APIStatusError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return f"HTTP {error.status_code}: {' '.join(str(body.get('message', error.message)).split())}"


def _advice(error: openai.APIStatusError, provider: ProviderConfig) -> str:
    if error.code == "training_not_available":
        return "OpenAI does not offer fine-tuning to this organisation: choose provider=local"
    if error.status_code == 404 or error.param == "model":
        return f"is provider.base_model={provider.base_model} right, and is the fine-tuned model still there?"
    if error.status_code == 429:
        return "lower provider.concurrency, check the account's limits, and run the same command again"
    if error.status_code >= 500:
        return "the error is on the provider's side; run the same command again"
    return "fix the request; this one cost nothing"
