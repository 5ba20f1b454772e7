"""`langchain-openai`: the client that applications in Python are often built on."""

import asyncio
from typing import List, Literal

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field

from harness import Suite, cosine, equal, expect

suite = Suite("langchain")
check = suite.check


def llm(**more):
    named = {"model": suite.model, "base_url": f"{suite.url}/v1", "api_key": "none", "max_retries": 0, "timeout": 120}
    return ChatOpenAI(**{**named, "temperature": 0, "max_tokens": 24, **more})


@tool
def weather(city: Literal["Oslo", "Lima", "Rome"], metric: bool) -> str:
    """The weather in a city."""
    return f"3 degrees in {city}"


class Card(BaseModel):
    """A card of a game."""

    suit: Literal["clubs", "hearts"]
    marks: List[bool] = Field(min_length=1, max_length=3)


@check("invoke")
def _():
    message = llm().invoke([SystemMessage("Be brief."), HumanMessage("Hello")])
    expect(isinstance(message, AIMessage) and message.content, message)
    expect(message.usage_metadata["output_tokens"] > 0, message)
    expect(message.response_metadata["finish_reason"] in ("length", "stop"), message)


@check("stream")
def _():
    chunks = list(llm(stream_usage=True).stream("Hello"))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    equal(whole.content, llm().invoke("Hello").content)
    expect(whole.usage_metadata["output_tokens"] > 0, whole)


@check("batch and the asynchronous calls")
def _():
    expect(all(message.content for message in llm().batch(["Hello", "Good day", "Ahoy"])))

    async def both():
        message = await llm().ainvoke("Hello")
        return message.content, "".join([chunk.content async for chunk in llm().astream("Hello")])

    whole, streamed = asyncio.run(both())
    equal(whole, streamed)


@check("bind_tools")
def _():
    bound = llm(max_tokens=300, reasoning_effort="none").bind_tools(
        [weather], tool_choice="any", parallel_tool_calls=False, strict=True
    )
    message = bound.invoke("Hello")
    (call,) = message.tool_calls
    expect(call["name"] == "weather" and call["args"]["city"] in ("Oslo", "Lima", "Rome"), call)
    result = weather.invoke(call)
    expect(isinstance(result, ToolMessage), result)
    expect(llm().invoke([HumanMessage("Hello"), message, result]).content)
    streamed = None
    for chunk in bound.stream("Hello"):
        streamed = chunk if streamed is None else streamed + chunk
    equal(streamed.tool_calls[0]["args"], call["args"])


@check("with_structured_output")
def _():
    for method in ("json_schema", "function_calling"):
        card = (
            llm(max_tokens=300, reasoning_effort="none")
            .with_structured_output(Card, method=method, strict=True)
            .invoke("Hello")
        )
        expect(isinstance(card, Card), method, card)


@check("the responses interface")
def _():
    message = llm(use_responses_api=True).invoke("Hello")
    expect(message.text, message)


@check("embeddings")
def _():
    # With the check of lengths on, the client fetches a tokenizer of another vendor's models.
    embeddings = OpenAIEmbeddings(
        model=suite.model, base_url=f"{suite.url}/v1", api_key="none", check_embedding_ctx_length=False, max_retries=0
    )
    first, second = embeddings.embed_documents(["a cat", "a dog on the roof"])
    expect(cosine(first, embeddings.embed_query("a cat")) > 0.9999 and cosine(first, second) < 0.9999)


suite.main()
