"""The openai package for Python, 1.x and newer."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
from openai_chat import Answer, chat, chat_async, chat_parse, chat_stream
from shared import INSTRUCTIONS, MODEL, REVIEWS, SCHEMA, main, messages, text

client = openai.OpenAI()


def chat_json_schema() -> Iterator[str]:
    form: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
    for review in REVIEWS:
        answer = client.chat.completions.create(model=MODEL, messages=messages(review), response_format=form)
        yield json.loads(answer.choices[0].message.content)["label"]


def chat_tool() -> Iterator[str]:
    tool = {"type": "function", "function": {"name": "answer", "parameters": SCHEMA, "strict": True}}
    for review in REVIEWS:
        answer = client.chat.completions.create(
            model=MODEL, messages=messages(review), tools=[tool], tool_choice="required"
        )
        yield json.loads(answer.choices[0].message.tool_calls[0].function.arguments)["label"]


def responses() -> Iterator[str]:
    for review in REVIEWS:
        answer = client.responses.create(model=MODEL, instructions=INSTRUCTIONS, input=review, max_output_tokens=16)
        yield text(answer.output_text)


def responses_parse() -> Iterator[str]:
    for review in REVIEWS:
        answer = client.responses.parse(model=MODEL, instructions=INSTRUCTIONS, input=review, text_format=Answer)
        yield answer.output_parsed.label


def responses_stream() -> Iterator[str]:
    for review in REVIEWS:
        with client.responses.stream(
            model=MODEL, instructions=INSTRUCTIONS, input=review, text_format=Answer
        ) as stream:
            yield stream.get_final_response().output_parsed.label


main(
    {
        "chat": lambda: chat(client, MODEL),
        "chat, streamed": lambda: chat_stream(client, MODEL),
        "chat, json_schema": chat_json_schema,
        "chat, parse": lambda: chat_parse(client, MODEL),
        "chat, tool": chat_tool,
        "chat, async": lambda: asyncio.run(chat_async(openai.AsyncOpenAI(), MODEL)),
        "responses": responses,
        "responses, parse": responses_parse,
        "responses, streamed": responses_stream,
    }
)
