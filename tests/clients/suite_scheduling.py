"""What requests ask of the scheduler and what answers tell of it, by the clients of OpenAI, Anthropic and Ollama.

Which device is right is not for this suite: whatever machine it runs on has `cpu0`, and that is enough to see that headers
and fields are read, refused in each client's own way, and answered. `posing.py` has the machines with several devices.
"""

import json

import anthropic
import ollama
import openai
from anthropic import Anthropic
from openai import OpenAI

from harness import Suite, check_troika, each, equal, expect, raises
from http_client import ask

suite = Suite("scheduling")
check = suite.check
openai_client = anthropic_client = None
# How often OpenAI's client has asked, its own retries included.
asked = 0

HELLO = [{"role": "user", "content": "Hello"}]
CLASSES = ("interactive", "agent", "background", "batch")
# Shorter than any machine takes for anything.
NEVER = {"X-Troika-Deadline-Ms": "0.001"}


def prepare():
    global openai_client, anthropic_client

    def count(_):
        global asked
        asked += 1

    counting = openai.DefaultHttpxClient(event_hooks={"request": [count]})
    # With retries, as applications have them: what must not be tried again is seen to be tried once.
    openai_client = OpenAI(base_url=f"{suite.url}/v1", api_key="none", max_retries=2, timeout=120, http_client=counting)
    anthropic_client = Anthropic(base_url=suite.url, api_key="none", max_retries=0, timeout=120)


def chat(headers=None, **more):
    named = {"model": suite.model, "max_completion_tokens": 12, "temperature": 0, **more}
    return openai_client.chat.completions.create(messages=HELLO, extra_headers=headers or {}, **named)


def message(headers=None, **more):
    named = {"model": suite.model, "max_tokens": 12, **more}
    return anthropic_client.messages.create(messages=HELLO, extra_headers=headers or {}, **named)


def generate(headers=None, **more):
    client = ollama.Client(host=suite.url, timeout=120, headers=headers or {})
    return client.generate(suite.model, "Hello", options={"num_predict": 12, "temperature": 0}, **more)


def answer_of(path, headers=None, **more):
    """An answer as it is: Ollama's client leaves out what it does not know."""
    answer = ask(suite.url, "POST", path, {"model": suite.model, **more}, headers)
    expect(answer.status == 200, answer.status, answer.body[:400])
    return answer


def get(path):
    answer = ask(suite.url, "GET", path)
    expect(answer.status == 200, path, answer.status, answer.body[:400])
    return answer.json()


# --- classes --------------------------------------------------------------------------------------------------------


@check("the header is the class, with every client")
def _():
    def asked_for(name):
        header = {"X-Troika-Class": name}
        equal(chat(header).usage.troika["class"], name)
        equal(message(header).usage.troika["class"], name)
        body = {"prompt": "Hello", "stream": False, "options": {"num_predict": 4}}
        equal(answer_of("/api/generate", header, **body).json()["troika"]["class"], name)
        expect(generate(header).done)

    each([(name,) for name in CLASSES], asked_for)


@check("service_tier and priority are the class where no header is")
def _():
    def asked_for(want, headers=None, **more):
        answer = chat(headers, **more)
        equal(answer.usage.troika["class"], want, more)
        if tier := more.get("service_tier"):
            equal(answer.service_tier, "default" if tier == "auto" else tier)

    asked_for("interactive")
    asked_for("interactive", service_tier="auto")
    asked_for("interactive", service_tier="priority")
    asked_for("background", service_tier="flex")
    asked_for("interactive", extra_body={"priority": -1})
    asked_for("background", extra_body={"priority": 3})
    asked_for("batch", extra_body={"priority": 100})
    asked_for("agent", {"X-Troika-Class": "agent"}, service_tier="flex")
    equal(message(service_tier="standard_only").usage.troika["class"], "interactive")
    equal(message(extra_body={"priority": 3}).usage.troika["class"], "background")


@check("many texts to embed are background, one is somebody's search")
def _():
    def embed(texts):
        return openai_client.embeddings.create(model=suite.model, input=texts).usage.troika["class"]

    equal((embed("a cat"), embed(["a cat"] * 8)), ("interactive", "background"))


# --- refusals -------------------------------------------------------------------------------------------------------


@check("what nobody knows is a bad request that names what is known, in every client's own error")
def _():
    def refused(header, value, known):
        headers = {header: value}
        for error in (
            raises(openai.BadRequestError, chat, headers),
            raises(anthropic.BadRequestError, message, headers),
            raises(ollama.ResponseError, generate, headers),
        ):
            equal(error.status_code, 400)
            said = str(error)
            expect(value in said and all(name in said for name in known), said)
        equal(raises(openai.BadRequestError, chat, headers).param, header)

    cases = [
        ("X-Troika-Class", "urgent", CLASSES),
        ("X-Troika-Device", "tpu7", ("cpu0",)),
        ("X-Troika-Deadline-Ms", "soon", ("greater than 0",)),
        ("X-Troika-Deadline-Ms", "-5", ("greater than 0",)),
    ]
    each(cases, refused)
    error = raises(openai.BadRequestError, chat, service_tier="gold")
    expect(error.param == "service_tier" and "flex" in error.message, error.body)


@check("a label of privacy is never refused: what is not known is private")
def _():
    headers = {"X-Troika-Privacy": "between-us"}
    for answer in (chat(headers), message(headers), generate(headers)):
        expect(answer, "no answer")


@check("a deadline that cannot be kept is refused at once with the estimate, and not tried again")
def _():
    before = asked
    error = raises(openai.APIStatusError, chat, NEVER)
    equal((error.status_code, asked - before), (412, 1))
    expect("deadline" in error.message and any(word[0].isdigit() for word in error.message.split()), error.message)
    equal(raises(anthropic.APIStatusError, message, NEVER).status_code, 412)
    equal(raises(ollama.ResponseError, generate, NEVER).status_code, 412)
    # The stream that was refused is an error too, and no stream that ends at once.
    equal(raises(openai.APIStatusError, chat, NEVER, stream=True).status_code, 412)


@check("a deadline that can be kept, and the device that there is, are no hindrance")
def _():
    headers = {"X-Troika-Deadline-Ms": "600000", "X-Troika-Device": first_device(), "X-Troika-Privacy": "local-only"}
    for troika in (chat(headers).usage.troika, message(headers).usage.troika):
        equal({span["device"] for span in troika["placement"]}, {first_device()})


def first_device():
    return get("/api/troika/state")["devices"][0]["name"]


# --- what is told ---------------------------------------------------------------------------------------------------


@check("every answer says where it was made, in its head and in its numbers")
def _():
    raw = openai_client.chat.completions.with_raw_response.create(model=suite.model, messages=HELLO, max_completion_tokens=12)
    troika = raw.parse().usage.troika
    check_troika(troika, raw.headers["x-troika-placement"])
    raw = anthropic_client.messages.with_raw_response.create(model=suite.model, messages=HELLO, max_tokens=12)
    check_troika(raw.parse().usage.troika, raw.headers["x-troika-placement"])
    raw = openai_client.responses.with_raw_response.create(model=suite.model, input="Hello", max_output_tokens=16)
    check_troika(raw.parse().usage.troika, raw.headers["x-troika-placement"])
    raw = openai_client.completions.with_raw_response.create(model=suite.model, prompt="Hello", max_tokens=12)
    check_troika(raw.parse().usage.troika, raw.headers["x-troika-placement"])
    for path, body in (("/api/generate", {"prompt": "Hello"}), ("/api/chat", {"messages": HELLO})):
        answer = answer_of(path, stream=False, options={"num_predict": 12}, **body)
        check_troika(answer.json()["troika"], answer.headers["x-troika-placement"])
    raw = openai_client.embeddings.with_raw_response.create(model=suite.model, input="a cat")
    check_troika(raw.parse().usage.troika, raw.headers["x-troika-placement"], writes=False)


@check("streams tell it in their heads and at their ends")
def _():
    asked_for = {"model": suite.model, "messages": HELLO}
    raw = openai_client.chat.completions.with_raw_response.create(
        **asked_for, max_completion_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    *_, last = raw.parse()
    check_troika(last.usage.troika, raw.headers["x-troika-placement"])
    with anthropic_client.messages.stream(**asked_for, max_tokens=12) as stream:
        ends = [event for event in stream if event.type == "message_delta"]
        check_troika(ends[-1].usage.troika, stream.response.headers["x-troika-placement"])
    with openai_client.responses.with_streaming_response.create(
        model=suite.model, input="Hello", max_output_tokens=16, stream=True
    ) as raw:
        *_, last = raw.parse()
        check_troika(last.response.usage.troika, raw.headers["x-troika-placement"])
    answer = answer_of("/api/chat", messages=HELLO, options={"num_predict": 12})
    last = json.loads(answer.body.strip().splitlines()[-1])
    check_troika(last["troika"], answer.headers["x-troika-placement"])


@check("the reasons of a placement are found by the request's number")
def _():
    answer = chat({"X-Request-Id": "mine-7"})
    equal(answer._request_id, "mine-7")
    (placement,) = get("/api/troika/placements/mine-7")
    equal(placement["model"], suite.model)
    (first, *_) = placement["decisions"]
    equal((first["class"], first["cause"]), ("interactive", "arrival"))
    winner = first["candidates"][0]
    expect(winner["lost"] is None and winner["forecast"]["prefill_s"] > 0, winner)
    account, troika = placement["account"], answer.usage.troika
    equal(account["joules_source"], troika["joules_source"])
    expect(troika["joules"] is None or round(account["joules"], 3) == troika["joules"], account, troika)
    expect(abs(account["ttft_s"] * 1e3 - troika["ttft_ms"]) < 0.01, account, troika)
    answer = ask(suite.url, "GET", "/api/troika/placements/never-asked")
    expect(answer.status == 404 and "never-asked" in answer.message, answer.status, answer.body[:300])


@check("the state names devices, queues and memory")
def _():
    chat()
    state = get("/api/troika/state")
    expect(any(device["name"] == "cpu0" and device["kind"] == "cpu" for device in state["devices"]), state["devices"])
    equal([queue["class"] for queue in state["queues"]], list(CLASSES))
    expect(suite.model in state["models"].values(), state["models"])
    for pool in state["pools"]:
        expect(pool["capacity"] > pool["models"] >= 0, pool)


@check("the policy is told, changed, and refused by name")
def _():
    before = get("/api/troika/policy")
    expect({"fastest", "frugal", "balanced", "cool", "battery"} <= set(before["known"]), before)
    try:
        # A name of ONNX Runtime's stands for one of ours.
        for name, want in (("frugal", "frugal"), ("MAX_PERFORMANCE", "fastest"), ("PREFER_NPU", "PREFER_NPU")):
            answer = ask(suite.url, "PUT", "/api/troika/policy", {"policy": name})
            equal((answer.status, answer.json()["policy"]), (200, want))
            equal(get("/api/troika/policy")["policy"], want)
            equal(get("/api/troika/state")["policy"], want)
    finally:
        ask(suite.url, "PUT", "/api/troika/policy", {"policy": before["policy"]})
    answer = ask(suite.url, "PUT", "/api/troika/policy", {"policy": "turbo"})
    expect(answer.status == 400 and "turbo" in answer.message and "frugal" in answer.message, answer.body)
    equal(get("/api/troika/policy"), before)


suite.main(prepare)
