"""The `anthropic` client of Python: messages, streams, tools, counting, and its errors."""

import json
from typing import List, Literal

import anthropic
from anthropic import Anthropic
from pydantic import BaseModel, Field

from harness import (
    CARD_SCHEMA,
    CARD_TOKENS,
    CLOCK_PARAMETERS,
    WEATHER_PARAMETERS,
    Suite,
    equal,
    expect,
    is_card,
    is_weather,
    raises,
)

suite = Suite("anthropic")
check = suite.check
client = None

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {"name": "weather", "description": "The weather.", "input_schema": WEATHER_PARAMETERS}
CLOCK = {"name": "clock", "description": "The time.", "input_schema": CLOCK_PARAMETERS}


class Card(BaseModel):
    suit: Literal["clubs", "hearts"]
    marks: List[bool] = Field(min_length=1, max_length=3)


def prepare():
    global client
    client = Anthropic(base_url=suite.url, api_key="none", max_retries=0, timeout=120)


def arguments(messages=HELLO, temperature=0.0, **more):
    # The client has no argument for the temperature any more; the interface still does.
    body = {"temperature": temperature, **more.pop("extra_body", {})}
    return {"model": suite.model, "messages": messages, "max_tokens": 24, "extra_body": body, **more}


def ask(messages=HELLO, **more):
    return client.messages.create(**arguments(messages, **more))


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


@check("a message is answered")
def _():
    message = ask(system="Be brief.")
    equal((message.type, message.role, message.model), ("message", "assistant", suite.model))
    expect(message.id.startswith("msg_"), message.id)
    expect(message.stop_reason in ("max_tokens", "end_turn") and text_of(message), message)
    expect(message.usage.input_tokens > 0 and 0 < message.usage.output_tokens <= 24, message.usage)


@check("blocks of text are understood in system and messages")
def _():
    blocks = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo", "cache_control": {"type": "ephemeral"}}]
    message = ask([{"role": "user", "content": blocks}], system=[{"type": "text", "text": "Be brief."}])
    expect(message.usage.input_tokens > ask().usage.input_tokens)


@check("a stream is the same answer in parts")
def _():
    with client.messages.stream(**arguments()) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    equal(text, text_of(final))
    equal(text, text_of(ask()))
    expect(final.stop_reason in ("max_tokens", "end_turn") and final.usage.output_tokens > 0, final)


@check("a stream tells what happens in order")
def _():
    kinds = [event.type for event in ask(stream=True) if event.type != "ping"]
    equal(kinds[:2], ["message_start", "content_block_start"])
    equal(kinds[-3:], ["content_block_stop", "message_delta", "message_stop"])
    equal(set(kinds[2:-3]), {"content_block_delta"})


@check("a stop sequence ends the answer and is named")
def _():
    whole = text_of(ask())
    stop = next(
        whole[at : at + 3]
        for at in range(len(whole) // 3, len(whole))
        if whole[at : at + 3].isascii() and whole[at : at + 3].strip()
    )
    message = ask(stop_sequences=["never to be said", stop])
    equal((text_of(message), message.stop_reason, message.stop_sequence), (whole.split(stop)[0], "stop_sequence", stop))


@check("a required tool is called, and its result is taken")
def _():
    for choice, names in [
        ({"type": "any", "disable_parallel_tool_use": True}, ("weather", "clock")),
        ({"type": "tool", "name": "weather"}, ("weather",)),
    ]:
        message = ask(tools=[WEATHER, CLOCK], tool_choice=choice, max_tokens=300)
        equal(message.stop_reason, "tool_use")
        (call,) = [block for block in message.content if block.type == "tool_use"]
        expect(call.id and call.name in names and isinstance(call.input, dict), call)
    expect(is_weather(call.input), call)
    turns = [
        *HELLO,
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in message.content]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "3 degrees"}]},
    ]
    after = ask(turns, tools=[WEATHER, CLOCK], tool_choice={"type": "none"})
    expect(text_of(after) and after.stop_reason != "tool_use", after)


@check("a tool in a stream comes in parts that join")
def _():
    with client.messages.stream(
        **arguments(tools=[WEATHER], tool_choice={"type": "tool", "name": "weather"}, max_tokens=300)
    ) as stream:
        parts = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    (call,) = [block for block in final.content if block.type == "tool_use"]
    expect(parts and is_weather(call.input) and final.stop_reason == "tool_use", final)


@check("thinking is a block of its own")
def _():
    message = ask(thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=1040, temperature=1.0)
    equal(message.content[0].type, "thinking")
    expect(message.content[0].thinking and isinstance(message.content[0].signature, str), message.content[0])
    for thinking in ({"type": "disabled"}, {"type": "adaptive"}):
        expect(text_of(ask(thinking=thinking)), thinking)


@check("a schema is kept, and a pydantic model is parsed")
def _():
    form = {"type": "json_schema", "schema": CARD_SCHEMA}
    message = ask(output_config={"format": form}, max_tokens=CARD_TOKENS)
    equal(message.stop_reason, "end_turn", text_of(message))
    expect(is_card(json.loads(text_of(message))), text_of(message))
    parsed = client.messages.parse(**arguments(output_format=Card, max_tokens=CARD_TOKENS))
    expect(isinstance(parsed.parsed_output, Card), parsed)


@check("tokens are counted as they are when they are read")
def _():
    for more in ({}, {"system": "Be brief."}, {"tools": [WEATHER]}):
        counted = client.messages.count_tokens(model=suite.model, messages=HELLO, **more)
        usage = ask(**more).usage
        # What is read from the cache is counted apart.
        equal(counted.input_tokens, usage.input_tokens + (usage.cache_read_input_tokens or 0), usage)


@check("errors are those of the interface")
def _():
    def kind(error):
        equal(error.body["type"], "error")
        expect(error.body["error"]["message"], error.body)
        return error.body["error"]["type"]

    equal(kind(raises(anthropic.NotFoundError, ask, model="no-such-model")), "not_found_error")
    for more in (
        {"max_tokens": -1},
        {"temperature": 2.0},
        {"messages": []},
        {"messages": [{"role": "nobody", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x y " * 60_000}]},
        {"tools": [{"name": "x"}]},
        {"tool_choice": {"type": "tool", "name": "nope"}, "tools": [WEATHER]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}],
                }
            ]
        },
    ):
        equal(kind(raises(anthropic.BadRequestError, lambda: ask(**more))), "invalid_request_error", more)
    missing = raises(
        anthropic.BadRequestError,
        lambda: client.post("/v1/messages", body={"model": suite.model, "messages": HELLO}, cast_to=object),
    )
    expect("max_tokens" in missing.body["error"]["message"], missing.body)


suite.main(prepare)
