"""Parameters that a server refuses can be left out, and the message names the setting, whatever the server's words."""

import json
from typing import Any

import pytest

from reviewtune.core.config.config import Config
from reviewtune.core.config.loading import changed
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.errors import ConfigError, ProviderError
from reviewtune.providers.completion import Request
from reviewtune.providers.inference import ask
from tests.support.asking import REQUEST, chats, terms
from tests.support.odd_server import CHAT, Asked, Reply, completion, odd_server

ALL = Request("m", {"type": "json_schema"}, temperature=0, max_tokens=8, seed=1, logprobs=True, top_logprobs=3)
SETTINGS = {
    "temperature": "provider.leave_out=[temperature]",
    "seed": "provider.leave_out=[seed]",
    "max_completion_tokens": "provider.answer_limit=max_tokens",
    "response_format": "provider.structured_output=false",
    "logprobs": "provider.label_scores=none",
}
WORDS = [
    ("temperature", {"error": {"message": "'temperature' does not support 0; only 1", "param": "temperature"}}),
    ("seed", {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}),
    ("seed", {"error": "unknown field: Seed"}),
    ("seed", {"error": {"message": "Unsupported parameter", "param": "seed"}}),
    ("max_completion_tokens", {"message": "Unrecognized request argument supplied: max_completion_tokens"}),
    ("max_completion_tokens", {"message": "use max_tokens"}),
    ("response_format", {"error": "json_schema is not supported by this model"}),
    ("response_format", "Guided decoding is off"),
    ("logprobs", {"error": {"message": "top_logprobs are not available"}}),
    ("logprobs", "This server does not return log probs"),
]


@pytest.mark.parametrize(("name", "body"), WORDS)
def test_the_message_names_the_setting(config: Config, name: str, body: Any) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    with (
        odd_server({CHAT: lambda _: Reply(text.encode(), status=400)}) as server,
        pytest.raises(ProviderError) as caught,
    ):
        ask(terms(config, server.base_url), REQUEST, chats(2), title="x")
    assert SETTINGS[name] in str(caught.value)
    assert not any(setting in str(caught.value) for other, setting in SETTINGS.items() if other != name)


def test_words_that_name_no_parameter_lead_to_all_settings(config: Config) -> None:
    with (
        odd_server({CHAT: lambda _: Reply(b'{"error": "Invalid request"}', status=422)}) as server,
        pytest.raises(ProviderError, match="HTTP 422: Invalid request; ") as caught,
    ):
        ask(terms(config, server.base_url), REQUEST, chats(2), title="x")
    assert all(setting in str(caught.value) for setting in SETTINGS.values())


@pytest.mark.parametrize(
    ("changes", "sent"),
    [
        ({}, {"temperature", "seed", "max_completion_tokens"}),
        ({"leave_out": ("temperature", "seed")}, {"max_completion_tokens"}),
        ({"answer_limit": "max_tokens"}, {"temperature", "seed", "max_tokens"}),
        ({"answer_limit": "none", "leave_out": ("seed",)}, {"temperature"}),
    ],
)
def test_what_is_left_out_is_not_sent(config: Config, changes: dict[str, Any], sent: set[str]) -> None:
    bodies: list[Asked] = []

    def reply(asked: Asked) -> object:
        bodies.append(asked)
        return completion()

    with odd_server({CHAT: reply}) as server:
        ask(terms(config, server.base_url, **changes), ALL, chats(1), title="x")
    others = {"model", "messages", "response_format", "logprobs", "top_logprobs"}
    assert set(bodies[0].body) - others == sent


def test_a_parameter_with_a_setting_of_its_own_is_named(config: Config) -> None:
    for name, setting in (("response_format", "structured_output: false"), ("logprobs", "label_scores: none")):
        with pytest.raises(ConfigError, match=f"{name} has a separate setting, {setting}"):
            changed(config.provider, "x", leave_out=[name])
    assert changed(config.provider, "x", leave_out=["seed"]).leave_out == ("seed",)


def test_a_budget_needs_a_limit_of_the_answers(config: Config) -> None:
    with pytest.raises(ConfigError, match=r"provider\.answer_limit is none"):
        terms(config, "http://127.0.0.1:9/v1", answer_limit="none", budget_usd=1.0, priced_as="gpt-4o-mini-2024-07-18")


def test_files_of_earlier_runs_have_neither_setting(config: Config) -> None:
    old = config.provider.model_dump(mode="json")
    del old["leave_out"], old["answer_limit"]
    assert ProviderConfig.model_validate(old) == config.provider
