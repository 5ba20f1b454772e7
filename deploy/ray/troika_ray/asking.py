"""What a request is, seen from outside: what it begins with, whether doing it twice does harm, who else may have its answer.

Bodies are read for this alone. What is no JSON, or of another form than expected, is nothing special: the server says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from .wire import Call

_GENERATES = frozenset(
    ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/api/chat", "/api/generate")
)
# They compute, keep nothing and have one right answer.
_COMPUTES = frozenset(
    (
        *("/v1/embeddings", "/v1/messages/count_tokens", "/v1/responses/input_tokens"),
        *("/api/embed", "/api/embeddings", "/api/show"),
        *("/api/troika/vision", "/api/troika/audio/activity", "/api/troika/audio/denoise"),
    )
)
# Requests that change a node's models go to one replica, as long as there is it, so that they meet in order.
_LIBRARY = frozenset(("/api/create", "/api/copy", "/api/delete"))

# A conversation that its client writes out as one prompt grows at the end, so that only its beginning stays.
_PROMPT_CHARS = 256


class Asked:
    """A request, and what can be told of it. `path` has no query; `fields` are the body's, {} if it has none."""

    def __init__(self, call: Call) -> None:
        """Reads the body, once."""
        self.call = call
        self.path = urlsplit(call.target).path
        self._headers = {name: value for name, value in call.headers}
        self.fields: dict[str, Any] = {}
        if call.body[:1] in (b"{", b" ", b"\n", b"\t", b"\r"):
            try:
                fields = json.loads(call.body)
            except ValueError:
                fields = None
            self.fields = fields if isinstance(fields, dict) else {}

    def affinity(self, chars: int) -> str:
        """A name for the beginning of the conversation, the same for each of its turns; "" if it has none.

        `chars` of each text count, up to the first thing that the user says; of a bare prompt, at most 256. The API key
        is part of it: servers keep what they have read apart by key, so two keys gain nothing from sharing a replica.
        """
        if self.path in _LIBRARY:
            return "library"
        if self.path not in _GENERATES:
            return ""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self._headers.get(b"authorization", b""), self._headers.get(b"x-api-key", b"")):
            digest.update(part + b"\0")
        texts = list(self._beginning())
        for text in (str(self.fields.get("model")), *texts):
            digest.update(text[:chars].encode(errors="replace") + b"\0")
        return digest.hexdigest() if texts else ""

    def _beginning(self) -> Iterator[str]:
        for name in ("system", "instructions"):
            if value := self.fields.get(name):
                yield _text(value)
        for name in ("messages", "input", "prompt"):
            value = self.fields.get(name)
            if isinstance(value, str) and value:
                yield value[:_PROMPT_CHARS]
            for item in value if isinstance(value, list) else ():
                yield _text(item.get("content") if isinstance(item, dict) else item)
                if not isinstance(item, dict) or item.get("role") == "user":
                    break

    def may_repeat(self) -> bool:
        """Whether a replica's death in the middle may be answered by asking another one.

        Reading changes nothing. For the rest, the client says so by an `Idempotency-Key`, or the request has one right
        answer: greedy or seeded, and without tools, whose calls the client may act on.
        """
        if self.call.method in ("GET", "HEAD", "OPTIONS") or b"idempotency-key" in self._headers:
            return True
        if self.path in _COMPUTES:
            return True
        if self.path not in _GENERATES or any(self.fields.get(name) for name in ("tools", "functions")):
            return False
        options = self.fields.get("options")
        options = options if isinstance(options, dict) else {}
        choices = [of.get(name) for of in (self.fields, options) for name in ("temperature", "seed")]
        return 0 in choices[::2] or any(seed is not None for seed in choices[1::2])

    def may_be_elsewhere(self, status: int) -> bool:
        """Whether an answer of this status means only that another replica has what was asked for.

        Responses and placements are kept by the server that made them.
        """
        if status not in (400, 404):
            return False
        if self.path.startswith(("/v1/responses/", "/api/troika/placements/")):
            return status == 404
        return self.path == "/v1/responses" and bool(self.fields.get("previous_response_id"))

    def is_for_all(self) -> bool:
        """Whether every replica is to do it: what the owner wants of one, he wants of all."""
        return self.path == "/api/troika/policy" and self.call.method == "PUT"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
