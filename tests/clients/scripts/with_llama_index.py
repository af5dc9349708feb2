"""LlamaIndex: OpenAILike, structured answers, and OpenAI under a hosted name."""

import os
from collections.abc import Iterator

from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.openai import OpenAI, OpenAIResponses
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel
from shared import API_KEY, BASE_URL, INSTRUCTIONS, MODEL, REVIEWS, Issue, main, text

HOSTED = os.environ["HOSTED"]
chat = {"is_chat_model": True, "api_base": BASE_URL, "api_key": API_KEY}


class Answer(BaseModel):
    """The issue of a review."""

    label: Issue


def conversation(review: str) -> list[ChatMessage]:
    return [ChatMessage(role="system", content=INSTRUCTIONS), ChatMessage(role="user", content=review)]


def like_chat() -> Iterator[str]:
    llm = OpenAILike(MODEL, max_tokens=16, **chat)
    for review in REVIEWS:
        yield text(llm.chat(conversation(review)).message.content)


def like_default() -> Iterator[str]:
    """It continues a text, at /v1/completions."""
    llm = OpenAILike(MODEL, api_base=BASE_URL, api_key=API_KEY, max_tokens=16)
    for review in REVIEWS:
        yield text(llm.complete(f"{INSTRUCTIONS} {review}").text)


def like_function_calling() -> Iterator[str]:
    llm = OpenAILike(MODEL, is_function_calling_model=True, **chat).as_structured_llm(Answer)
    for review in REVIEWS:
        yield llm.chat(conversation(review)).raw.label


def like_json_schema() -> Iterator[str]:
    llm = OpenAILike(MODEL, should_use_structured_outputs=True, **chat)
    for review in REVIEWS:
        yield llm.structured_predict(Answer, PromptTemplate(f"{INSTRUCTIONS} {{review}}"), review=review).label


def hosted_structured() -> Iterator[str]:
    llm = OpenAI(HOSTED, api_base=BASE_URL).as_structured_llm(Answer)
    for review in REVIEWS:
        yield llm.chat(conversation(review)).raw.label


def hosted_responses() -> Iterator[str]:
    llm = OpenAIResponses(HOSTED, api_base=BASE_URL, max_output_tokens=16)
    for review in REVIEWS:
        yield text(llm.chat(conversation(review)).message.content)


main(
    {
        "OpenAILike, chat": like_chat,
        "OpenAILike, default": like_default,
        "OpenAILike, as_structured_llm with function calling": like_function_calling,
        "OpenAILike, structured outputs": like_json_schema,
        "OpenAI, as_structured_llm": hosted_structured,
        "OpenAIResponses": hosted_responses,
    }
)
