"""Clients of Azure OpenAI: `openai.AzureOpenAI` and the newer paths below /openai/v1/."""

from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from tests.support.serving import ServerProcess, example, upload
from tests.support.wire import error_of

ASK: Any = {"messages": [{"role": "user", "content": "billing was bad"}], "temperature": 0, "max_completion_tokens": 3}


@pytest.fixture(scope="module")
def azure(server: ServerProcess) -> Iterator[openai.AzureOpenAI]:
    endpoint = server.base_url.removesuffix("/v1")
    with openai.AzureOpenAI(azure_endpoint=endpoint, api_key="any", api_version="2024-10-21", max_retries=0) as client:
        yield client


def test_chats_with_the_model_in_the_path(
    azure: openai.AzureOpenAI, client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    model = tuned.fine_tuned_model or ""
    expected = client.chat.completions.create(model=model, **ASK).choices
    assert azure.chat.completions.create(model=model, **ASK).choices == expected
    chunks = azure.chat.completions.create(model=model, stream=True, **ASK)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == expected[0].message.content
    with pytest.raises(openai.NotFoundError) as caught:
        azure.chat.completions.create(model="nobody", **ASK)
    assert caught.value.code == "model_not_found"


def test_the_path_decides_which_model_answers(server: ServerProcess, tuned: FineTuningJob) -> None:
    address = f"{server.base_url.removesuffix('/v1')}/openai/deployments/{tuned.fine_tuned_model}/chat/completions"
    for more in ({}, {"model": "nobody"}):
        answer = httpx2.post(address, params={"api-version": "2024-10-21"}, json=ASK | more, timeout=60)
        assert answer.json()["model"] == tuned.fine_tuned_model
    assert error_of(httpx2.post(address, content=b"{", headers={"content-type": "application/json"}), 400)
    assert error_of(httpx2.post(address, params={"colour": "red"}, json=ASK), 400)["param"] == "colour"


def test_the_other_resources_with_the_model_in_the_path(
    azure: openai.AzureOpenAI, server: ServerProcess, tuned: FineTuningJob
) -> None:
    """Completions go there by the genuine client; responses go to /openai/responses, and to the deployment's path."""
    model, client = tuned.fine_tuned_model or "", server.client
    prompt: Any = {"prompt": "billing was", "max_tokens": 4, "temperature": 0}
    text = azure.completions.create(model=model, **prompt).choices[0].text
    assert text == client.completions.create(model=model, **prompt).choices[0].text
    assert text == "".join(
        chunk.choices[0].text for chunk in azure.completions.create(model=model, stream=True, **prompt)
    )
    question: Any = {"input": "billing was bad", "temperature": 0, "max_output_tokens": 16}
    expected = client.responses.create(model=model, **question)
    assert azure.responses.create(model=model, **question).output_text == expected.output_text
    address = f"{server.base_url.removesuffix('/v1')}/openai/deployments/{model}"
    for more in ({}, {"model": "nobody"}):
        answer = httpx2.post(f"{address}/responses?api-version=1", json=question | more, timeout=60).json()
        assert (answer["model"], answer["output"][0]["content"][0]["text"]) == (model, expected.output_text)
    counted = httpx2.post(f"{address}/responses/input_tokens", json={"input": "billing was bad"}, timeout=60).json()
    assert counted["input_tokens"] == (expected.usage and expected.usage.input_tokens)
    assert error_of(httpx2.post(f"{address}/embeddings", json=question), 404)


def test_files_jobs_and_models(azure: openai.AzureOpenAI, tuned: FineTuningJob) -> None:
    file = upload(azure, [example(index) for index in range(3)])
    assert azure.files.retrieve(file.id).filename == "a.jsonl"
    azure.files.delete(file.id)
    assert azure.fine_tuning.jobs.retrieve(tuned.id).status == "succeeded"
    assert tuned.fine_tuned_model in [model.id for model in azure.models.list()]


def test_the_newer_paths(server: ServerProcess, client: openai.OpenAI, base: str) -> None:
    address = server.base_url.replace("/v1", "/openai/v1")
    with openai.OpenAI(base_url=address, api_key="any", max_retries=0) as newer:
        expected = client.chat.completions.create(model=base, **ASK).choices
        assert newer.chat.completions.create(model=base, **ASK).choices == expected
        assert newer.responses.create(model=base, input="x", max_output_tokens=16).status
