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

from reviewtune.core.config.provider import ProviderConfig
from reviewtune.core.loopback import is_loopback, no_certificates
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.errors import ProviderError
from reviewtune.providers.address import key_variable
from reviewtune.providers.model_names import has_finetuned_name
from reviewtune.providers.responses.http_client import AccountClient
from reviewtune.providers.responses.provider_errors import one_line

LOCAL_KEY = "local"  # the openai client needs some key, but the local server has none by default


@contextmanager
def connect(provider: ProviderConfig, *, progress: Progress = SILENT) -> Iterator[openai.OpenAI]:
    """An openai client for this provider, ready to use.

    Args:
        provider: the provider.
        progress: receives a message when the provider cannot be reached, and for how long that is tried.

    Raises:
        ProviderError: no key, no server, a refused key, an unknown model, or limits that outlast the retries.
    """
    with one_line(provider), _build(provider, progress) as client:
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


def _build(provider: ProviderConfig, progress: Progress) -> openai.OpenAI:
    if provider.kind == "azure":
        return _azure(provider, progress)
    key = _key(provider)
    address = provider.base_url
    if provider.kind == "local" and address is None:
        from reviewtune.providers.local.account_server import local_address  # imports what only it needs

        address = local_address(provider.base_model, key, has_finetuned_name(provider.base_model))
    limits = _limits(provider, address or _openai_address(), progress)
    return openai.OpenAI(base_url=address, api_key=key, **limits, **_headers(provider, key))


def _azure(provider: ProviderConfig, progress: Progress) -> openai.OpenAI:
    endpoint, version = _azure_address(provider)
    limits = _limits(provider, endpoint, progress)
    return openai.AzureOpenAI(azure_endpoint=endpoint, api_version=version, api_key=_key(provider), **limits)


def _openai_address() -> str:
    """Where the openai client goes that is given no address."""
    return os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"


def _limits(provider: ProviderConfig, address: str, progress: Progress) -> dict[str, Any]:
    return {
        "max_retries": provider.max_retries,
        "timeout": openai.Timeout(provider.timeout, connect=10.0),
        "http_client": _http_client(provider, address, progress),
    }


def _http_client(provider: ProviderConfig, address: str, progress: Progress) -> httpx2.Client:
    try:
        return AccountClient(
            who=f"provider {provider.kind}",
            retries=provider.max_retries,
            progress=progress,
            **http_options(provider, address),
        )
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
    name = key_variable(provider)
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
