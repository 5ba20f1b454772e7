"""The `ollama` client of Python: models, chat, generate, embed, and models made of models."""

import json
import os

import ollama

from harness import (
    CARD_SCHEMA,
    CARD_TOKENS,
    WEATHER_PARAMETERS,
    Skip,
    Suite,
    cosine,
    dot,
    equal,
    expect,
    is_card,
    is_weather,
    raises,
)

suite = Suite("ollama")
check = suite.check
client = None

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": WEATHER_PARAMETERS}}


def prepare():
    global client
    client = ollama.Client(host=suite.url, timeout=120)


def names():
    return [model.model for model in client.list().models]


def has(name):
    return name in names() or f"{name}:latest" in names()


def chat(messages=HELLO, **more):
    options = {"num_predict": 24, "temperature": 0, **more.pop("options", {})}
    return client.chat(suite.model, messages, options=options, **more)


def generate(prompt="Once upon a time", **more):
    options = {"num_predict": 24, "temperature": 0, **more.pop("options", {})}
    return client.generate(suite.model, prompt, options=options, **more)


def check_numbers(answer):
    expect(answer.done and answer.done_reason in ("stop", "length"), answer)
    expect(0 < answer.eval_count <= 24 and answer.prompt_eval_count > 0, answer)
    expect(answer.total_duration >= answer.eval_duration > 0, answer)


@check("models are listed and shown")
def _():
    expect(has(suite.model), names())
    model = next(model for model in client.list().models if model.model.startswith(suite.model))
    expect(model.size > 1_000_000 and len(model.digest) == 64 and model.modified_at, model)
    expect(model.details.family == "qwen3" and model.details.format == "gguf", model.details)
    shown = client.show(suite.model)
    expect("<|im_start|>" in shown.template and shown.modelinfo["general.architecture"] == "qwen3", shown)
    expect({"completion", "tools", "thinking"} <= set(shown.capabilities), shown.capabilities)
    equal(shown.modelinfo["qwen3.embedding_length"], 256)
    equal(raises(ollama.ResponseError, client.show, "no-such-model").status_code, 404)


@check("chat answers, in one piece and in many")
def _():
    whole = chat()
    check_numbers(whole)
    equal(whole.message.role, "assistant")
    parts = list(chat(stream=True))
    equal("".join(part.message.content or "" for part in parts), whole.message.content)
    equal([part.done for part in parts], [False] * (len(parts) - 1) + [True])
    check_numbers(parts[-1])


@check("generate answers, in one piece and in many")
def _():
    whole = generate(system="Be brief.")
    check_numbers(whole)
    parts = list(generate(system="Be brief.", stream=True))
    equal("".join(part.response for part in parts), whole.response)
    expect(generate(raw=True).prompt_eval_count < whole.prompt_eval_count, "raw is still rendered")


@check("options steer")
def _():
    equal(
        chat(options={"seed": 4, "temperature": 1.0}).message.content,
        chat(options={"seed": 4, "temperature": 1.0}).message.content,
    )
    text = chat().message.content
    stop = next(text[at : at + 3] for at in range(len(text) // 3, len(text)) if text[at : at + 3].isascii())
    answer = chat(options={"stop": [stop]})
    equal((answer.message.content, answer.done_reason), (text.split(stop)[0], "stop"))
    equal(chat(options={"num_predict": 3}).eval_count, 3)


@check("a schema is kept, and JSON is JSON")
def _():
    for seed in range(3):
        answer = chat(format=CARD_SCHEMA, options={"num_predict": CARD_TOKENS, "temperature": 1.0, "seed": seed})
        expect(is_card(json.loads(answer.message.content)), answer.message.content)
    answer = generate(format=CARD_SCHEMA, options={"num_predict": CARD_TOKENS})
    expect(is_card(json.loads(answer.response)), answer.response)
    expect(chat(format="json", options={"num_predict": 60}).message.content.lstrip().startswith("{"))


@check("tools are shown to the model")
def _():
    plain, offered = chat(), chat(tools=[WEATHER])
    expect(offered.prompt_eval_count > plain.prompt_eval_count + 20, plain, offered)
    call = {"function": {"name": "weather", "arguments": {"city": "Oslo", "days": 1, "metric": True}}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_name": "weather", "content": "3"},
    ]
    expect(is_weather(call["function"]["arguments"]) and chat(messages, tools=[WEATHER]).done)


@check("thinking is apart from the answer")
def _():
    answer = chat(think=True)
    expect(answer.message.thinking and not answer.message.content, answer.message)
    expect(not chat(think=False).message.thinking)


@check("embeddings have unit length and can be shorter")
def _():
    answer = client.embed(suite.model, ["a cat", "a dog on the roof", "a cat"])
    first, second, third = answer.embeddings
    expect(abs(dot(first, first) - 1) < 1e-3 and cosine(first, third) > 0.9999 and cosine(first, second) < 0.9999)
    expect(answer.prompt_eval_count > 0, answer.prompt_eval_count)
    equal(len(client.embed(suite.model, "a cat", dimensions=64).embeddings[0]), 64)
    old = client.embeddings(suite.model, "a cat").embedding
    expect(cosine(old, first) > 0.999, cosine(old, first))
    long = "x y " * 60_000
    expect(client.embed(suite.model, long, truncate=True).embeddings)
    equal(raises(ollama.ResponseError, client.embed, suite.model, long, truncate=False).status_code, 400)


@check("what is loaded can be seen, kept and unloaded")
def _():
    chat(keep_alive="5m")
    loaded = next(model for model in client.ps().models if model.model.startswith(suite.model))
    expect(loaded.size > 0 and loaded.expires_at, loaded)
    answer = client.generate(suite.model, "", keep_alive=0)
    equal((answer.done, answer.done_reason), (True, "unload"))
    expect(not any(model.model.startswith(suite.model) for model in client.ps().models), client.ps())
    equal(client.generate(suite.model, "").done_reason, "load")
    expect(any(model.model.startswith(suite.model) for model in client.ps().models), client.ps())


@check("models are copied and deleted")
def _():
    equal(client.copy(suite.model, "copied").status, "success")
    expect(has("copied"), names())
    answer = client.chat("copied", HELLO, options={"num_predict": 4, "temperature": 0})
    equal(answer.eval_count, 4)
    equal(client.delete("copied").status, "success")
    expect(not has("copied") and has(suite.model), names())
    equal(raises(ollama.ResponseError, client.delete, "copied").status_code, 404)
    equal(raises(ollama.ResponseError, client.copy, "no-such-model", "x").status_code, 404)


@check("a model is made of another one")
def _():
    made = client.create(
        "made", from_=suite.model, system="Always answer in verse, long and slow.", parameters={"num_predict": 3}
    )
    equal(made.status, "success")
    try:
        answer = client.chat("made", HELLO, options={"temperature": 0})
        equal(answer.eval_count, 3)
        expect(answer.prompt_eval_count > chat().prompt_eval_count + 10, answer)
        shown = client.show("made")
        expect("verse" in shown.modelfile and "num_predict" in shown.parameters, shown)
    finally:
        client.delete("made")
    states = [part.status for part in client.create("made", from_=suite.model, stream=True)]
    equal(states[-1], "success")
    client.delete("made")
    error = raises(ollama.ResponseError, client.create, "made", from_="no-such-model")
    expect(error.status_code in (400, 404), error)


@check("a model is made of a file")
def _():
    path = os.environ.get("TROIKA_TEST_MODEL")
    if not path:
        raise Skip("TROIKA_TEST_MODEL does not name the model's file")
    digest = client.create_blob(path)
    expect(digest.startswith("sha256:"), digest)
    equal(client.create("uploaded", files={"model.gguf": digest}).status, "success")
    answer = client.chat("uploaded", HELLO, options={"num_predict": 8, "temperature": 0})
    equal(answer.message.content, chat(options={"num_predict": 8}).message.content)
    client.delete("uploaded")


@check("errors are those of the interface")
def _():
    error = raises(ollama.ResponseError, client.chat, "no-such-model", HELLO)
    equal(error.status_code, 404)
    expect("no-such-model" in error.error, error.error)
    equal(raises(ollama.ResponseError, chat, options={"temperature": -3}).status_code, 400)
    equal(raises(ollama.ResponseError, client.generate, "no-such-model", "x").status_code, 404)


suite.main(prepare)
