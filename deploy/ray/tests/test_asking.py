"""What is told of a request by looking at it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from troika_ray.asking import Asked
from troika_ray.wire import Call


def asked(path: str, body: Any = None, method: str = "POST", **headers: str) -> Asked:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Asked(Call(method, path, raw, b"" if body is None else json.dumps(body).encode()))


def said(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]


def chat(*texts: str, system: str = "Be brief.", **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "system", "content": system}, *said(*texts)], **more}


def test_turns_of_a_conversation_have_one_affinity() -> None:
    first = asked("/v1/chat/completions", chat("Hello")).affinity(100)
    later = asked("/v1/chat/completions", chat("Hello", "Hi!", "And now?")).affinity(100)
    assert first == later != ""


@pytest.mark.parametrize(
    "other",
    [
        asked("/v1/chat/completions", chat("Goodbye")),
        asked("/v1/chat/completions", chat("Hello", system="Be long.")),
        asked("/v1/chat/completions", chat("Hello") | {"model": "n"}),
        asked("/v1/chat/completions", chat("Hello"), authorization="Bearer tk-2"),
        asked("/v1/chat/completions", chat("Hello"), x_api_key="tk-2"),
    ],
)
def test_another_beginning_model_or_key_is_another_affinity(other: Asked) -> None:
    mine = asked("/v1/chat/completions", chat("Hello"), authorization="Bearer tk-1")
    assert mine.affinity(100) != other.affinity(100)


def test_every_interface_has_a_beginning() -> None:
    for path, body in [
        ("/v1/completions", {"prompt": "Once"}),
        ("/v1/completions", {"prompt": ["Once", "Twice"]}),
        ("/v1/completions", {"prompt": [1, 2, 3]}),
        ("/v1/responses", {"input": "Once"}),
        ("/v1/responses", {"input": said("Once")}),
        ("/v1/messages", {"system": [{"type": "text", "text": "s"}], "messages": said("Once")}),
        ("/api/chat", {"messages": said("Once")}),
        ("/api/generate", {"prompt": "Once"}),
    ]:
        assert asked(path, body).affinity(100), (path, body)


def test_a_long_prompt_counts_by_its_beginning() -> None:
    def affinity(prompt: str, chars: int) -> str:
        return asked("/api/generate", {"prompt": prompt}).affinity(chars)

    assert affinity("x" * 100 + "a", 100) == affinity("x" * 100, 100)
    assert affinity("x" * 100 + "a", 101) != affinity("x" * 100, 101)
    assert affinity("x" * 256 + "a", 9999) == affinity("x" * 256, 9999)


def test_what_is_no_conversation_has_none() -> None:
    assert asked("/v1/models", method="GET").affinity(100) == ""
    assert asked("/v1/embeddings", {"input": "a"}).affinity(100) == ""
    assert asked("/v1/chat/completions", {"messages": []}).affinity(100) == ""


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b"\xff", b"null", b'{"messages": 7}', b'{"messages": [7, null]}', b'{"options": 3}']
)
def test_odd_bodies_are_nothing_special(body: bytes) -> None:
    it = Asked(Call("POST", "/v1/chat/completions", [], body))
    it.affinity(100)
    assert not it.may_repeat()


@pytest.mark.parametrize(
    ("may", "it"),
    [
        (False, asked("/v1/chat/completions", chat("a"))),
        (False, asked("/v1/chat/completions", chat("a", temperature=0.7))),
        (True, asked("/v1/chat/completions", chat("a", temperature=0))),
        (True, asked("/v1/chat/completions", chat("a", temperature=0.0))),
        (True, asked("/v1/chat/completions", chat("a", seed=0))),
        (True, asked("/api/chat", {"messages": said("a"), "options": {"temperature": 0}})),
        (True, asked("/api/generate", {"prompt": "a", "options": {"seed": 3}})),
        (False, asked("/api/generate", {"prompt": "a", "seed": None})),
        (False, asked("/v1/chat/completions", chat("a", temperature=0, tools=[{"type": "function"}]))),
        (False, asked("/v1/chat/completions", chat("a", seed=1, functions=[{"name": "f"}]))),
        (True, asked("/v1/chat/completions", chat("a", seed=1, tools=[]))),
        (True, asked("/v1/chat/completions", chat("a", tools=[{}]), idempotency_key="k")),
        (True, asked("/v1/embeddings", {"input": "a"})),
        (True, asked("/v1/models", method="GET")),
        (False, asked("/api/create", {"model": "a", "temperature": 0})),
        (False, asked("/api/delete", {"model": "a"}, method="DELETE")),
    ],
)
def test_what_may_be_repeated(may: bool, it: Asked) -> None:
    assert it.may_repeat() is may


def test_what_another_replica_may_have() -> None:
    assert asked("/v1/responses/resp_1", method="GET").may_be_elsewhere(404)
    assert asked("/api/troika/placements/r-1", method="GET").may_be_elsewhere(404)
    assert asked("/v1/responses", {"input": "a", "previous_response_id": "resp_1"}).may_be_elsewhere(400)
    assert not asked("/v1/responses", {"input": "a"}).may_be_elsewhere(400)
    assert not asked("/v1/responses/resp_1", method="GET").may_be_elsewhere(200)
    assert not asked("/v1/models/none", method="GET").may_be_elsewhere(404)


def test_a_policy_is_for_all() -> None:
    assert asked("/api/troika/policy", {"policy": "frugal"}, method="PUT").is_for_all()
    assert not asked("/api/troika/policy", method="GET").is_for_all()
