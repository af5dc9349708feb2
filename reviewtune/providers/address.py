"""The real address of a provider, which is a part of the keys of answers and of fine-tuning jobs, and its API key.

The address must not change for a configuration that worked before: each changed key is paid for again.
"""

import os

from reviewtune.core.config.provider import ProviderConfig

VARIABLES = {"openai": "OPENAI_BASE_URL", "azure": "AZURE_OPENAI_ENDPOINT"}  # read by the openai client
OWN_KEY_ENV = "REVIEWTUNE_API_KEY"  # the key of a local server that a user started with one
DEFAULTS = ("", "https://api.openai.com/v1")


def address_of(provider: ProviderConfig) -> str:
    """Where requests go: base_url, else the address in the environment, else the kind of provider.

    The kind means OpenAI's own address, and for the local provider, whose port changes.
    """
    return provider.base_url or address_in_environment(provider) or provider.kind


def address_in_environment(provider: ProviderConfig) -> str | None:
    """The address that a variable sets for a provider without base_url; None if it is the provider's default."""
    variable = VARIABLES.get(provider.kind)
    if provider.base_url or variable is None:
        return None
    address = os.environ.get(variable, "").strip().rstrip("/")
    return None if address in DEFAULTS else address


def key_variable(provider: ProviderConfig) -> str | None:
    """The environment variable with the provider's API key; None if it needs no key."""
    return OWN_KEY_ENV if provider.kind == "local" else provider.api_key_env
