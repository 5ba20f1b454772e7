"""Requests of every interface that carry a canary in every place that takes text, and every way to call them private."""

import itertools
import secrets
from dataclasses import dataclass, field

from canary import PUBLIC_STEM, STEM
from served import ACTIONS, CONFIDENTIAL


@dataclass
class Ask:
    """A request, and what makes it private; `None` where nothing does."""

    path: str
    body: dict
    headers: dict = field(default_factory=dict)
    mark: str | None = None


def tool(word):
    """A tool that nobody needs, with the word in its description."""
    parameters = {"type": "object", "properties": {"q": {"type": "string", "description": word}}}
    return {"name": "look_up", "description": f"Looks up {word}", "parameters": parameters}


def openai_chat(word, model, tools):
    messages = [{"role": "system", "content": f"You keep {word}."}, {"role": "user", "content": f"Say {word} again."}]
    body = {"model": model, "messages": messages, "max_tokens": 3, "user": word, "metadata": {"word": word}}
    return "/v1/chat/completions", body | ({"tools": [{"type": "function", "function": tool(word)}]} if tools else {})


def openai_completion(word, model, tools):
    return "/v1/completions", {"model": model, "prompt": f"The word is {word}, and", "max_tokens": 3}


def openai_response(word, model, tools):
    body = {"model": model, "input": f"Say {word}.", "instructions": f"Keep {word}.", "max_output_tokens": 16, "store": False}
    return "/v1/responses", body | ({"tools": [{"type": "function", **tool(word)}]} if tools else {})


def anthropic(word, model, tools):
    body = {"model": model, "max_tokens": 3, "system": f"Keep {word}.", "messages": [{"role": "user", "content": word}]}
    if tools:
        of = tool(word)
        body["tools"] = [{"name": of["name"], "description": of["description"], "input_schema": of["parameters"]}]
    return "/v1/messages", body


def ollama_chat(word, model, tools):
    body = {"model": model, "messages": [{"role": "user", "content": f"Say {word}."}], "options": {"num_predict": 3}}
    return "/api/chat", body | ({"tools": [{"type": "function", "function": tool(word)}]} if tools else {})


def ollama_generate(word, model, tools):
    return "/api/generate", {"model": model, "prompt": f"Say {word}.", "system": word, "options": {"num_predict": 3}}


def embeddings(word, model, tools):
    return "/v1/embeddings", {"model": model, "input": [f"It is {word}", word]}


WRITERS = (openai_chat, anthropic, ollama_chat, openai_response, openai_completion, ollama_generate)
WITH_TOOLS = (openai_chat, anthropic, ollama_chat, openai_response)
MARKS = ("header", "unknown label", "key", "model", "content", "no rule", "two hints")


def mark(ask, how, served, word):
    """Makes a request private in one of the ways."""
    ask.mark = how
    key = "desk"
    match how:
        case "header":
            ask.headers["X-Troika-Privacy"] = "local-only"
        case "unknown label":
            ask.headers["X-Troika-Privacy"] = "between-us"
        case "key":
            key = "vault"
        case "model":
            if ask.body["model"] == "tiny-chat":
                ask.body["model"] = "diary"
            else:
                ask.headers["X-Troika-Privacy"] = "local-only"
        case "content":
            confide(ask.body, word)
        case "no rule":
            ask.headers.pop("X-May", None)
        case "two hints":
            # What is said twice, and not the same: the stricter one holds.
            key = "vault"
            ask.headers["X-Troika-Privacy"] = "public"
    ask.headers["Authorization"] = f"Bearer {served.keys[key]}"
    return ask


def confide(body, word):
    """Puts the owner's words beside the canary, wherever the first text is."""
    for name in ("prompt", "input"):
        if name in body:
            body[name] = f"{CONFIDENTIAL}: {word}"
            return
    body["messages"][-1]["content"] = f"{CONFIDENTIAL}: {word}"


def private(served, n, model="tiny-chat", tools=False, more=None, headers=None):
    """`n` private requests: interfaces, marks and rules in turn, each with a canary of its own."""
    writers = itertools.cycle(WITH_TOOLS if tools else (*WRITERS, embeddings))
    marks, actions = itertools.cycle(MARKS), itertools.cycle(ACTIONS)
    for at in range(n):
        word = f"{STEM}{secrets.token_hex(6)}"
        path, body = next(writers)(word, model, tools)
        if at % 3 == 0 and "embeddings" not in path:
            body["stream"] = True
        elif path.startswith("/api/"):
            body["stream"] = False
        body |= more or {}
        ask = Ask(path, body, {"X-May": next(actions), **(headers or {})})
        yield mark(ask, next(marks), served, word)


def public(served, action, model="tiny-chat"):
    """A request that may go, by one of the rules."""
    path, body = openai_chat(f"{PUBLIC_STEM}{secrets.token_hex(6)}", model, False)
    return Ask(path, body, {"X-May": action, "Authorization": f"Bearer {served.keys['desk']}"})
