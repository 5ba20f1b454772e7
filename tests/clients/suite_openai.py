"""The `openai` client of Python: chat, completions, embeddings, models, and its errors.

`suite_responses.py` has the responses interface. The model says noise, so what is checked is form, and content only
where a grammar, a bias or a seed decides it.
"""

import asyncio
import json
from typing import List, Literal, Optional

import openai
from openai import OpenAI
from pydantic import BaseModel, Field

from harness import (
    CARD_SCHEMA,
    CARD_TOKENS,
    CLOCK_PARAMETERS,
    WEATHER_PARAMETERS,
    Suite,
    cosine,
    dot,
    each,
    equal,
    expect,
    is_card,
    is_weather,
    raises,
)

suite = Suite("openai")
check = suite.check
client = None

HELLO = [{"role": "user", "content": "Hello"}]
# The vocabulary of the model begins with the bytes.
TOKEN_A, TOKEN_CLOSE = ord("a"), ord("}")
WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": WEATHER_PARAMETERS}}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "The time.", "parameters": CLOCK_PARAMETERS}}


def prepare():
    global client
    client = OpenAI(base_url=f"{suite.url}/v1", api_key="none", max_retries=0, timeout=120)


def chat(messages=HELLO, **more):
    named = {"model": suite.model, "max_completion_tokens": 24, "temperature": 0, **more}
    return client.chat.completions.create(messages=messages, **named)


def chat_with_tools(messages=HELLO, **more):
    # A model of noise that begins to think does not come to an end with it.
    return chat(messages, **{"reasoning_effort": "none", "max_completion_tokens": 300, **more})


def text_of(answer):
    return answer.choices[0].message.content


# --- models ---------------------------------------------------------------------------------------------------------


@check("models are listed and retrieved")
def _():
    models = {model.id: model for model in client.models.list()}
    expect(suite.model in models, list(models))
    model = client.models.retrieve(suite.model)
    equal((model.id, model.object), (suite.model, "model"))
    expect(model.created > 0 and model.owned_by, model)
    error = raises(openai.NotFoundError, client.models.retrieve, "no-such-model")
    expect("no-such-model" in error.message, error.message)


# --- chat -----------------------------------------------------------------------------------------------------------


@check("chat answers, and counts tokens")
def _():
    answer = chat()
    equal(answer.object, "chat.completion")
    expect(answer.id.startswith("chatcmpl-") and answer.created > 1_700_000_000, answer.id, answer.created)
    choice = answer.choices[0]
    equal((choice.index, choice.message.role), (0, "assistant"))
    expect(choice.finish_reason in ("length", "stop"), choice.finish_reason)
    usage = answer.usage
    expect(usage.prompt_tokens > 0 and 0 < usage.completion_tokens <= 24, usage)
    equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
    expect(answer._request_id, "there is no header x-request-id")


@check("max_tokens is taken as max_completion_tokens is")
def _():
    answer = client.chat.completions.create(model=suite.model, messages=HELLO, max_tokens=5)
    expect(answer.usage.completion_tokens <= 5, answer.usage)
    if answer.usage.completion_tokens == 5:
        equal(answer.choices[0].finish_reason, "length")


@check("roles and parts of text are understood")
def _():
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "And now?", "name": "ann"},
    ]
    expect(chat(messages).usage.prompt_tokens > chat().usage.prompt_tokens)


@check("a stream is the same answer in parts")
def _():
    whole = chat(logit_bias={str(TOKEN_A): 2})
    chunks = list(chat(logit_bias={str(TOKEN_A): 2}, stream=True))
    equal(len({chunk.id for chunk in chunks}), 1)
    equal({chunk.object for chunk in chunks}, {"chat.completion.chunk"})
    equal(chunks[0].choices[0].delta.role, "assistant")
    equal("".join(chunk.choices[0].delta.content or "" for chunk in chunks), text_of(whole))
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    equal(reasons[-1], whole.choices[0].finish_reason)
    expect(not any(reasons[:-1]), reasons)
    expect(all(chunk.usage is None for chunk in chunks), "usage comes unasked")


@check("a stream ends with its usage if asked")
def _():
    *chunks, last = chat(stream=True, stream_options={"include_usage": True})
    equal(last.choices, [])
    expect(last.usage.completion_tokens > 0, last.usage)
    equal(last.usage.total_tokens, last.usage.prompt_tokens + last.usage.completion_tokens)
    expect(all(chunk.usage is None for chunk in chunks), "usage comes early")


@check("the client's own reader of streams works")
def _():
    asked = {"model": suite.model, "messages": HELLO, "response_format": Card, "max_completion_tokens": CARD_TOKENS}
    with client.chat.completions.stream(**asked) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    expect({"chunk", "content.delta", "content.done"} <= kinds, kinds)
    expect(isinstance(final.choices[0].message.parsed, Card), final)


@check("log-probabilities belong to the tokens of the answer")
def _():
    answer = chat(logprobs=True, top_logprobs=3)
    tokens = answer.choices[0].logprobs.content
    expect(len(tokens) in (answer.usage.completion_tokens, answer.usage.completion_tokens - 1), len(tokens), answer.usage)
    for token in tokens:
        equal(len(token.top_logprobs), 3)
        tops = [top.logprob for top in token.top_logprobs]
        expect(tops == sorted(tops, reverse=True) and tops[0] <= 0, tops)
        equal(round(token.logprob, 4), round(tops[0], 4), "greedy takes the likeliest")
    if not any(token.token.startswith("<|") for token in tokens):
        joined = b"".join(bytes(token.bytes) for token in tokens)
        equal(joined.decode(errors="replace"), text_of(answer))


@check("log-probabilities come in a stream, too, and not unasked")
def _():
    chunks = list(chat(logprobs=True, top_logprobs=0, stream=True))
    parts = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices]
    tokens = [token for part in parts if part and part.content for token in part.content]
    expect(len(tokens) >= 20 and all(not token.top_logprobs for token in tokens), len(tokens))
    equal(chat().choices[0].logprobs, None)


@check("n answers are n different answers")
def _():
    answer = chat(n=3, temperature=1.0, seed=7)
    equal([choice.index for choice in answer.choices], [0, 1, 2])
    equal(len({choice.message.content for choice in answer.choices}), 3)
    expect(answer.usage.completion_tokens > 24, answer.usage)
    ended = [
        chunk.choices[0].index
        for chunk in chat(n=3, temperature=1.0, stream=True)
        if chunk.choices and chunk.choices[0].finish_reason
    ]
    equal(sorted(ended), [0, 1, 2])


@check("a stop string ends the answer and is not in it")
def _():
    whole = text_of(chat())
    # Plain letters from the middle: whatever stands there, its first appearance is where the answer has to end.
    stop = next(whole[at : at + 3] for at in range(len(whole) // 3, len(whole)) if whole[at : at + 3].isascii())
    for stops in (stop, ["never to be said", stop]):
        answer = chat(stop=stops)
        equal((text_of(answer), answer.choices[0].finish_reason), (whole.split(stop)[0], "stop"))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chat(stop=stop, stream=True))
    equal(streamed, whole.split(stop)[0])


@check("the same seed gives the same answer")
def _():
    def say(seed):
        return text_of(chat(temperature=1.0, seed=seed))

    equal(say(1), say(1))
    expect(say(1) != say(2), "seeds do not matter")


@check("logit_bias decides")
def _():
    equal(text_of(chat(logit_bias={str(TOKEN_A): 100}, max_completion_tokens=6)), "aaaaaa")
    likeliest = chat(logprobs=True, top_logprobs=1, max_completion_tokens=1).choices[0].logprobs.content[0]
    if likeliest.bytes and len(likeliest.bytes) == 1:
        banned = chat(logit_bias={str(likeliest.bytes[0]): -100}, max_completion_tokens=1)
        expect(text_of(banned) != likeliest.token, likeliest)


@check("penalties change the answer")
def _():
    bias = {str(TOKEN_A): 8}
    plain = text_of(chat(logit_bias=bias))
    penalised = text_of(chat(logit_bias=bias, frequency_penalty=2.0, presence_penalty=2.0))
    expect(plain.count("a") > penalised.count("a"), plain, penalised)


@check("thinking is apart from the answer")
def _():
    answer = chat(extra_body={"chat_template_kwargs": {"enable_thinking": True}})
    message = answer.choices[0].message
    expect(message.reasoning_content and not message.content, message)
    answer = chat(extra_body={"chat_template_kwargs": {"enable_thinking": False}})
    expect(not getattr(answer.choices[0].message, "reasoning_content", None), answer)
    deltas = [
        chunk.choices[0].delta for chunk in chat(stream=True, extra_body={"chat_template_kwargs": {"enable_thinking": True}})
    ]
    expect("".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas), deltas)


# --- tools ----------------------------------------------------------------------------------------------------------


@check("a required tool is called with arguments that fit")
def _():
    answer = chat_with_tools(tools=[WEATHER, CLOCK], tool_choice="required", parallel_tool_calls=False)
    choice = answer.choices[0]
    equal(choice.finish_reason, "tool_calls")
    (call,) = choice.message.tool_calls
    equal(call.type, "function")
    expect(call.id and call.function.name in ("weather", "clock"), call)
    arguments = json.loads(call.function.arguments)
    expect(is_weather(arguments) if call.function.name == "weather" else arguments["zone"] in ("UTC", "CET"), call)


@check("a named tool is the one that is called, and its result is taken")
def _():
    for name in ("weather", "clock"):
        choice = {"type": "function", "function": {"name": name}}
        answer = chat_with_tools(tools=[WEATHER, CLOCK], tool_choice=choice)
        message = answer.choices[0].message
        equal([call.function.name for call in message.tool_calls], [name])
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": '{"degrees": 3}'}
        turns = [*HELLO, message.model_dump(exclude_none=True), result]
        expect(chat(turns, tools=[WEATHER, CLOCK]).usage.prompt_tokens > answer.usage.prompt_tokens)
        expect(not chat(turns, tools=[WEATHER, CLOCK], tool_choice="none").choices[0].message.tool_calls)


@check("tools in a stream come in parts that join")
def _():
    stream = chat_with_tools(tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, stream=True)
    calls, reason = {}, None
    for chunk in stream:
        reason = chunk.choices[0].finish_reason or reason
        for part in chunk.choices[0].delta.tool_calls or []:
            call = calls.setdefault(part.index, {"id": "", "name": "", "arguments": ""})
            call["id"] += part.id or ""
            call["name"] += part.function.name or ""
            call["arguments"] += part.function.arguments or ""
    equal(reason, "tool_calls")
    equal(list(calls), [0])
    expect(calls[0]["id"] and calls[0]["name"] == "weather" and is_weather(json.loads(calls[0]["arguments"])), calls)


@check("tools that may be called and are not leave an answer")
def _():
    answer = chat(tools=[WEATHER], tool_choice="auto")
    expect(answer.choices[0].finish_reason in ("length", "stop", "tool_calls"), answer)
    expect(answer.usage.prompt_tokens > chat().usage.prompt_tokens + 20, "the tools are not in the prompt")
    equal(chat(tools=[WEATHER], tool_choice="none").choices[0].message.tool_calls, None)


# --- structured output ----------------------------------------------------------------------------------------------


class Owner(BaseModel):
    id: int = Field(ge=0, le=99)


class Card(BaseModel):
    name: str = Field(max_length=8)
    suit: Literal["clubs", "hearts"]
    marks: List[bool] = Field(min_length=1, max_length=3)
    owner: Optional[Owner]


@check("a schema is kept")
def _():
    form = {"type": "json_schema", "json_schema": {"name": "card", "strict": True, "schema": CARD_SCHEMA}}
    for seed in range(4):
        answer = chat(response_format=form, temperature=1.0, seed=seed, max_completion_tokens=CARD_TOKENS)
        equal(answer.choices[0].finish_reason, "stop", text_of(answer))
        expect(is_card(json.loads(text_of(answer))), text_of(answer))
    streamed = "".join(
        c.choices[0].delta.content or "" for c in chat(response_format=form, stream=True, max_completion_tokens=CARD_TOKENS)
    )
    expect(is_card(json.loads(streamed)), streamed)


@check("a pydantic model is parsed")
def _():
    asked = {"model": suite.model, "messages": HELLO, "response_format": Card}
    answer = client.chat.completions.parse(**asked, max_completion_tokens=CARD_TOKENS)
    card = answer.choices[0].message.parsed
    expect(isinstance(card, Card) and card.suit in ("clubs", "hearts"), answer)


@check("a pydantic tool is parsed")
def _():
    tool = openai.pydantic_function_tool(Card)
    asked = {"model": suite.model, "messages": HELLO, "tools": [tool], "tool_choice": "required", "parallel_tool_calls": False}
    answer = client.chat.completions.parse(**asked, reasoning_effort="none", max_completion_tokens=CARD_TOKENS)
    (call,) = answer.choices[0].message.tool_calls
    expect(isinstance(call.function.parsed_arguments, Card), call)


@check("a JSON object is one")
def _():
    # The closing brace is likeliest everywhere, so the object is empty.
    answer = chat(response_format={"type": "json_object"}, logit_bias={str(TOKEN_CLOSE): 100})
    equal((json.loads(text_of(answer)), answer.choices[0].finish_reason), ({}, "stop"))
    answer = chat(response_format={"type": "json_object"}, max_completion_tokens=120)
    expect(text_of(answer).lstrip().startswith("{"), answer)
    if answer.choices[0].finish_reason == "stop":
        expect(isinstance(json.loads(text_of(answer)), dict), answer)
    equal(chat(response_format={"type": "text"}).object, "chat.completion")


# --- completions ----------------------------------------------------------------------------------------------------


def complete(prompt="Once upon a time", **more):
    return client.completions.create(**{"model": suite.model, "prompt": prompt, "max_tokens": 12, "temperature": 0, **more})


@check("completions answer text, texts and tokens")
def _():
    answer = complete()
    equal(answer.object, "text_completion")
    expect(answer.id.startswith("cmpl-") and answer.usage.completion_tokens <= 12, answer)
    two = complete(["Once upon a time", "In the beginning"])
    equal([choice.index for choice in two.choices], [0, 1])
    equal(two.choices[0].text, answer.choices[0].text)
    expect(two.choices[0].text != two.choices[1].text, two)
    tokens = complete(list(b"Hi"))
    equal(tokens.usage.prompt_tokens, 2)
    equal(len(complete(n=2, temperature=1.0).choices), 2)


@check("completions stream, stop, and give log-probabilities")
def _():
    whole = complete().choices[0].text
    chunks = list(complete(stream=True, stream_options={"include_usage": True}))
    equal("".join(chunk.choices[0].text for chunk in chunks if chunk.choices), whole)
    expect(chunks[-1].usage.completion_tokens > 0, chunks[-1])
    equal(complete(stop=whole[:1]).choices[0].text, "")
    logprobs = complete(logprobs=2).choices[0].logprobs
    equal(len(logprobs.tokens), len(logprobs.token_logprobs))
    equal(len(logprobs.tokens), len(logprobs.text_offset))
    expect(all(1 <= len(top) <= 3 for top in logprobs.top_logprobs), logprobs)


# --- embeddings -----------------------------------------------------------------------------------------------------


def embed(texts, **more):
    answer = client.embeddings.create(model=suite.model, input=texts, **more)
    equal(answer.object, "list")
    equal([item.index for item in answer.data], list(range(len(answer.data))))
    return [item.embedding for item in answer.data]


@check("embeddings are the same as numbers and as base64")
def _():
    (numbers,) = embed("a cat", encoding_format="float")
    (packed,) = embed("a cat")  # the client asks for base64 by itself
    expect(max(abs(x - y) for x, y in zip(numbers, packed)) < 1e-6)
    expect(abs(dot(numbers, numbers) - 1) < 1e-3, dot(numbers, numbers))
    first, second, third = embed(["a cat", "a dog on the roof", "a cat"])
    expect(cosine(first, third) > 0.9999 and cosine(first, second) < 0.9999)
    expect(cosine(first, numbers) > 0.9999, cosine(first, numbers))
    answer = client.embeddings.create(model=suite.model, input=list(b"a cat"))
    equal(answer.usage.prompt_tokens, answer.usage.total_tokens)


@check("embeddings can be shorter")
def _():
    (whole,), (short,) = embed("a cat"), embed("a cat", dimensions=64)
    equal(len(short), 64)
    expect(abs(dot(short, short) - 1) < 1e-3 and cosine(whole[:64], short) > 0.9999)
    raises(openai.BadRequestError, embed, "a cat", dimensions=len(whole) + 1)
    raises(openai.BadRequestError, embed, "a cat", dimensions=0)


# --- errors ---------------------------------------------------------------------------------------------------------


@check("an unknown model is not found")
def _():
    error = raises(openai.NotFoundError, chat, model="no-such-model")
    equal((error.status_code, error.code), (404, "model_not_found"))
    expect("no-such-model" in error.message and error.type == "invalid_request_error", error.body)


@check("what makes no sense is a bad request that names its field")
def _():
    def refused(more, param):
        error = raises(openai.BadRequestError, lambda: chat(**more))
        expect(error.type == "invalid_request_error" and error.message, error.body)
        expect(error.param and error.param.startswith(param), more, error.body)

    cases = [
        ({"temperature": 3}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 1_000_000}, "n"),
        ({"max_completion_tokens": -4}, "max_completion_tokens"),
        ({"presence_penalty": 9}, "presence_penalty"),
        ({"logprobs": True, "top_logprobs": 50_000}, "top_logprobs"),
        ({"logit_bias": {"99999999": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 1000}}, "logit_bias"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, "messages"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": {"type": "function", "function": {"name": "nope"}}, "tools": [WEATHER]}, "tool_choice"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}},
            "response_format",
        ),
    ]
    each(cases, refused)


@check("an image is refused with a reason")
def _():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    error = raises(openai.BadRequestError, chat, [{"role": "user", "content": [image]}])
    expect("image" in error.message.lower(), error.message)


@check("a prompt beyond the context is refused with both numbers")
def _():
    error = raises(openai.BadRequestError, chat, [{"role": "user", "content": "x y " * 60_000}])
    equal(error.code, "context_length_exceeded")
    numbers = [int(word) for word in error.message.replace(",", "").replace(".", " ").split() if word.isdigit()]
    expect(len(numbers) >= 2 and max(numbers) > 60_000, error.message)


@check("an unknown route is not found")
def _():
    error = raises(openai.NotFoundError, lambda: client.post("/no/such/route", body={}, cast_to=object))
    expect(error.body is not None, "there is no error in the body")


# --- many at once ---------------------------------------------------------------------------------------------------


@check("answers asked for at once are those asked for one by one")
def _():
    async def ask_all(texts):
        async with openai.AsyncOpenAI(base_url=f"{suite.url}/v1", api_key="none", max_retries=0, timeout=120) as many:
            asks = [
                many.chat.completions.create(
                    model=suite.model, messages=[{"role": "user", "content": text}], max_completion_tokens=16, temperature=0
                )
                for text in texts
            ]
            return [text_of(answer) for answer in await asyncio.gather(*asks)]

    texts = [f"Tell me of the number {number}." for number in range(8)]
    alone = [text_of(chat([{"role": "user", "content": text}], max_completion_tokens=16)) for text in texts]
    equal(asyncio.run(ask_all(texts)), alone)


suite.main(prepare)
