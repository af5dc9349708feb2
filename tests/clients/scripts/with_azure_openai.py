"""AzureOpenAI of the openai package: the paths of deployments, and Azure's newer path /openai/v1."""

import asyncio
from collections.abc import Iterator

import openai
from openai_chat import Answer, chat, chat_async, chat_parse, chat_stream
from shared import API_KEY, BASE_URL, MODEL, REVIEWS, main

ENDPOINT = BASE_URL.removesuffix("/v1")
VERSION = "2024-10-21"
client = openai.AzureOpenAI(azure_endpoint=ENDPOINT, api_key=API_KEY, api_version=VERSION)


def azure_deployment() -> Iterator[str]:
    """The deployment is a part of the client; the model that a request names does not matter."""
    fixed = openai.AzureOpenAI(azure_endpoint=ENDPOINT, azure_deployment=MODEL, api_key=API_KEY, api_version=VERSION)
    return chat_parse(fixed, "any")


def newer_path() -> Iterator[str]:
    return chat_parse(openai.OpenAI(base_url=f"{ENDPOINT}/openai/v1/", api_key=API_KEY), MODEL)


def newer_path_responses() -> Iterator[str]:
    newer = openai.OpenAI(base_url=f"{ENDPOINT}/openai/v1/", api_key=API_KEY)
    for review in REVIEWS:
        yield newer.responses.parse(model=MODEL, input=review, text_format=Answer).output_parsed.label


def asynchronous() -> list[str]:
    asker = openai.AsyncAzureOpenAI(azure_endpoint=ENDPOINT, api_key=API_KEY, api_version=VERSION)
    return asyncio.run(chat_async(asker, MODEL))


main(
    {
        "chat": lambda: chat(client, MODEL),
        "chat, streamed": lambda: chat_stream(client, MODEL),
        "chat, parse": lambda: chat_parse(client, MODEL),
        "azure_deployment": azure_deployment,
        "async": asynchronous,
        "/openai/v1, parse": newer_path,
        "/openai/v1, responses": newer_path_responses,
    }
)
