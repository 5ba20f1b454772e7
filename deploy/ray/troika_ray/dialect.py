"""What a front itself has to say, in the words of the API that the client speaks: errors, as `troika serve` writes them."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse

_OPENAI = {429: ("rate_limit_error", "overloaded"), 413: ("invalid_request_error", None)}
_ANTHROPIC = {413: "request_too_large", 501: "invalid_request_error"}


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(root + "/")


def _body(path: str, status: int, message: str) -> dict[str, Any]:
    if _below(path, "/v1/messages"):
        return {"type": "error", "error": {"type": _ANTHROPIC.get(status, "overloaded_error"), "message": message}}
    if _below(path, "/api") and not _below(path, "/api/troika"):
        return {"error": message}
    kind, code = _OPENAI.get(status, ("server_error", "unavailable"))
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def refuse(path: str, status: int, message: str, retry_after_s: int | None = None) -> JSONResponse:
    """An answer that says no. `retry_after_s` is whole seconds."""
    headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
    return JSONResponse(_body(path, status, message), status, headers)


def last_words(path: str, content_type: str, message: str) -> bytes | None:
    """What ends a stream that breaks off; None if the form has no word for that, and the connection has to tell."""
    body = _body(path, 503, message)
    if content_type.startswith("application/x-ndjson"):
        return json.dumps(body).encode() + b"\n"
    if not content_type.startswith("text/event-stream"):
        return None
    if path == "/v1/responses":
        body = {"type": "error", **body["error"]}
    named = b"event: error\n" if path in ("/v1/messages", "/v1/responses") else b""
    # The replica may have died in the middle of an event; an empty line ends it.
    return b"\n\n" + named + b"data: " + json.dumps(body).encode() + b"\n\n"
