"""The ways of the openai package that its clients for OpenAI and for Azure share."""

import asyncio
from collections.abc import Iterator

import openai
from pydantic import BaseModel
from shared import REVIEWS, Issue, messages, text


class Answer(BaseModel):
    label: Issue


def chat(client: openai.OpenAI, model: str) -> Iterator[str]:
    for review in REVIEWS:
        answer = client.chat.completions.create(model=model, messages=messages(review), max_tokens=16)
        yield text(answer.choices[0].message.content)


def chat_stream(client: openai.OpenAI, model: str) -> Iterator[str]:
    for review in REVIEWS:
        chunks = client.chat.completions.create(model=model, messages=messages(review), max_tokens=16, stream=True)
        yield text("".join(chunk.choices[0].delta.content or "" for chunk in chunks))


def chat_parse(client: openai.OpenAI, model: str) -> Iterator[str]:
    for review in REVIEWS:
        answer = client.chat.completions.parse(model=model, messages=messages(review), response_format=Answer)
        yield answer.choices[0].message.parsed.label


async def chat_async(client: openai.AsyncOpenAI, model: str) -> list[str]:
    """All reviews at once."""

    async def one(review: str) -> str:
        answer = await client.chat.completions.parse(model=model, messages=messages(review), response_format=Answer)
        return answer.choices[0].message.parsed.label

    async with client:
        return await asyncio.gather(*map(one, REVIEWS))
