"""The `openai` client of Python against the responses interface: stored and stateless, streams, tools, schemas."""

import json
from typing import List, Literal

import openai
from openai import OpenAI
from pydantic import BaseModel, Field

from harness import WEATHER_PARAMETERS, Suite, equal, expect, is_weather, raises

suite = Suite("openai responses")
check = suite.check
client = None

WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "The weather.",
    "parameters": WEATHER_PARAMETERS,
    "strict": True,
}


def prepare():
    global client
    client = OpenAI(base_url=f"{suite.url}/v1", api_key="none", max_retries=0, timeout=120)


# A model of noise that begins to think does not come to an end with it.
CALMLY = {"reasoning": {"effort": "none"}, "max_output_tokens": 300}


def respond(question="Hello", **more):
    named = {"model": suite.model, "max_output_tokens": 24, "temperature": 0, **more}
    return client.responses.create(input=question, **named)


@check("a response has text, a state and a usage")
def _():
    answer = respond(instructions="Be brief.")
    equal(answer.object, "response")
    expect(answer.id.startswith("resp_") and answer.model == suite.model, answer)
    expect(answer.status in ("completed", "incomplete"), answer.status)
    if answer.status == "incomplete":
        equal(answer.incomplete_details.reason, "max_output_tokens")
    expect(answer.output_text, answer.output)
    message = next(item for item in answer.output if item.type == "message")
    equal((message.role, message.content[0].type), ("assistant", "output_text"))
    equal(answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens)
    expect(0 < answer.usage.output_tokens <= 24, answer.usage)


@check("input may be a list of messages with parts")
def _():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
    ]
    expect(respond(messages).usage.input_tokens > respond().usage.input_tokens)


@check("a stream tells what happens in order")
def _():
    events = list(respond(stream=True))
    kinds = [event.type for event in events]
    equal(kinds[:2], ["response.created", "response.in_progress"])
    expect(kinds[-1] in ("response.completed", "response.incomplete"), kinds[-1])
    order = [
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
    ]
    places = [kinds.index(kind) for kind in order]
    equal(places, sorted(places), kinds)
    numbers = [event.sequence_number for event in events]
    equal(numbers, list(range(numbers[0], numbers[0] + len(numbers))))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    equal(text, events[-1].response.output_text)
    equal(text, respond().output_text)


@check("the client's own reader of streams works")
def _():
    with client.responses.stream(model=suite.model, input="Hello", max_output_tokens=12) as stream:
        kinds = {event.type for event in stream}
    expect("response.output_text.delta" in kinds, kinds)


@check("a response follows another")
def _():
    first = respond("My name is Ann.")
    second = respond("What is it?", previous_response_id=first.id)
    equal(second.previous_response_id, first.id)
    expect(second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens - 8, first.usage, second.usage)
    error = raises(openai.APIStatusError, lambda: respond(previous_response_id="resp_none"))
    expect(error.status_code in (400, 404), error)


@check("a response is kept until it is deleted")
def _():
    answer = respond(metadata={"topic": "tests"})
    kept = client.responses.retrieve(answer.id)
    equal((kept.id, kept.output_text, kept.metadata), (answer.id, answer.output_text, {"topic": "tests"}))
    items = client.responses.input_items.list(answer.id).data
    equal([(item.type, item.role) for item in items], [("message", "user")])
    client.responses.delete(answer.id)
    raises(openai.NotFoundError, lambda: client.responses.retrieve(answer.id))
    unkept = respond(store=False)
    raises(openai.NotFoundError, lambda: client.responses.retrieve(unkept.id))


@check("a required tool is called, and its result is taken")
def _():
    answer = respond(tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, **CALMLY)
    (call,) = [item for item in answer.output if item.type == "function_call"]
    equal((answer.status, call.name), ("completed", "weather"))
    expect(call.call_id and is_weather(json.loads(call.arguments)), call)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": '{"degrees": 3}'}
    after = respond([result], previous_response_id=answer.id, tools=[WEATHER], tool_choice="none")
    expect(after.output_text, after)
    stateless = respond([{"role": "user", "content": "Hello"}, call.model_dump(exclude_none=True), result], store=False)
    expect(stateless.output_text, stateless)


@check("a tool in a stream comes in parts that join")
def _():
    stream = respond(tools=[WEATHER], tool_choice={"type": "function", "name": "weather"}, stream=True, **CALMLY)
    events = list(stream)
    parts = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    (done,) = [event for event in events if event.type == "response.function_call_arguments.done"]
    equal("".join(parts), done.arguments)
    expect(is_weather(json.loads(done.arguments)), done)


class Card(BaseModel):
    suit: Literal["clubs", "hearts"]
    marks: List[bool] = Field(min_length=1, max_length=3)


@check("a pydantic model is parsed")
def _():
    answer = client.responses.parse(model=suite.model, input="Hello", text_format=Card, max_output_tokens=300)
    expect(isinstance(answer.output_parsed, Card), answer.output)


@check("errors are those of the interface")
def _():
    error = raises(openai.NotFoundError, lambda: respond(model="no-such-model"))
    expect("no-such-model" in error.message, error.body)
    error = raises(openai.BadRequestError, lambda: respond(temperature=9))
    expect((error.param or "").startswith("temperature"), error.body)
    raises(openai.NotFoundError, lambda: client.responses.retrieve("resp_none"))
    raises(openai.BadRequestError, lambda: respond(tools=[{"type": "web_search"}]))


suite.main(prepare)
