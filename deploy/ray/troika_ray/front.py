"""Where requests come in: each is given to a replica, and to another if the first one dies and that does no harm."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from .asking import Asked
from .attempt import Attempt
from .dialect import last_words, refuse
from .prometheus import merge
from .settings import Entrance
from .wire import Call, Headers, Lost, Whole, Wish, passed_on

log = logging.getLogger("ray.serve")

_RETRY_AFTER_S = 5
# A replica that lost a request is asked last for this long; by then Serve or the replica itself has mended it.
_SHUNNED_S = 2.0
_WATCH_TIMEOUT_S = 10.0
# Serve's proxy writes these on every answer, the request's number as the server was told it.
_SERVES_OWN = (b"date", b"x-request-id")
# Who asks whether there is a replica does not want to wait for one.
_READY_S = 2.0


class Front:
    """Serve's ingress. Holds no state that another front would need."""

    def __init__(self, replicas: DeploymentHandle, settings: dict[str, Any]) -> None:
        """`replicas` is the deployment of `replica.Replica`."""
        self._settings = Entrance(**settings)
        self._replicas = replicas
        self._ask = replicas.options(method_name="ask", stream=True)
        self._shunned: dict[str, float] = {}

    async def __call__(self, request: Request) -> Response:
        """One request."""
        path = request.url.path
        if path == "/health":
            return JSONResponse({"status": "ok"})
        if path.startswith("/api/blobs/"):
            return refuse(path, 501, "files are not uploaded through this address: put them into the nodes' folder of models")
        try:
            body = await self._body(request)
        except ClientDisconnect:
            return Response(status_code=499)
        if body is None:
            return refuse(path, 413, f"the body is longer than {self._settings.body_limit} bytes")
        call = Call(request.method, _target(request), list(request.scope["headers"]), body)
        asked = Asked(call)
        if path in ("/metrics", "/api/troika/replicas"):
            return await self._watched(asked)
        if asked.is_for_all():
            return await self._by_all(asked)
        return await self._by_one(asked)

    async def _body(self, request: Request) -> bytes | None:
        """The body, None if it is too long."""
        pieces, length = [], 0
        async for piece in request.stream():
            length += len(piece)
            if length > self._settings.body_limit:
                return None
            pieces.append(piece)
        return b"".join(pieces)

    async def _by_one(self, asked: Asked) -> Response:
        """Gives the request to one replica after the other, until one has an answer or none may be asked any more."""
        affinity = asked.affinity(self._settings.prefix_chars)
        patience_s = _READY_S if asked.path == "/ready" else self._settings.patience
        until = time.monotonic() + patience_s
        refused: set[str] = set()
        lost = Lost(sent=False, why="there is no replica")
        tries = pauses = 0
        while tries < self._settings.tries and (left_s := until - time.monotonic()) > 0:
            wish = Wish(affinity, frozenset(refused | self._shun()))
            attempt = Attempt(self._ask.remote(asked.call, wish=wish))
            handed_over = False
            try:
                outcome = await attempt.begin(left_s)
                if outcome is None:
                    assert attempt.head is not None and attempt.replica is not None
                    # Each replica is asked once who has what was asked for.
                    if asked.may_be_elsewhere(attempt.head.status) and attempt.replica not in refused:
                        refused.add(attempt.replica)
                        continue
                    handed_over = True
                    return self._passed_on(asked, attempt)
            except BackPressureError:
                return refuse(asked.path, 429, "all replicas are full and many requests wait; try again soon", _RETRY_AFTER_S)
            except DeploymentUnavailableError:
                break
            finally:
                if not handed_over:
                    attempt.close()
            lost = outcome
            if attempt.replica is not None:
                self._shunned[attempt.replica] = time.monotonic() + _SHUNNED_S
            log.warning("a request was lost (sent: %s): %s", lost.sent, lost.why)
            if lost.sent and not asked.may_repeat():
                message = f"{lost.why}; the request was not repeated, because it has no Idempotency-Key"
                return refuse(asked.path, 502, message)
            tries += lost.sent
            pauses += 1
            await asyncio.sleep(min(0.02 * 2**pauses, 0.5))
        return refuse(asked.path, 503, f"no replica can take the request: {lost.why}", _RETRY_AFTER_S)

    def _shun(self) -> set[str]:
        now = time.monotonic()
        self._shunned = {name: until for name, until in self._shunned.items() if until > now}
        return set(self._shunned)

    def _passed_on(self, asked: Asked, attempt: Attempt) -> Response:
        head = attempt.head
        assert head is not None
        headers = [*passed_on(head.headers, *_SERVES_OWN), (b"x-troika-replica", (attempt.replica or "").encode())]
        body = attempt.whole()
        if body is None:
            response: Response = StreamingResponse(self._stream(asked, attempt), head.status)
        else:
            response = Response(body, head.status)
            # To HEAD the server tells a length and sends nothing.
            length = str(len(body)).encode()
            if asked.call.method == "HEAD":
                length = next((value for name, value in head.headers if name == b"content-length"), length)
            headers.append((b"content-length", length))
        response.raw_headers = headers
        return response

    async def _stream(self, asked: Asked, attempt: Attempt) -> AsyncIterator[bytes]:
        """The answer as it comes. If the replica dies now, the client is told: half an answer is never taken for one."""
        assert attempt.head is not None
        try:
            async for part in attempt.rest():
                if not isinstance(part, Lost):
                    yield part
                    continue
                log.warning("an answer broke off: %s", part.why)
                content_type = _header(attempt.head.headers, b"content-type")
                words = last_words(asked.path, content_type, "the answer broke off: its replica is gone; try again")
                if words is None:
                    raise ConnectionError(part.why)
                yield words
        finally:
            attempt.close()

    async def _all(self, call: Call) -> list[Whole]:
        answers = self._replicas.broadcast("ask_whole", call)
        told = await answers.results_async(timeout_s=_WATCH_TIMEOUT_S, return_exceptions=True)
        return [answer for answer in told if isinstance(answer, Whole)]

    async def _by_all(self, asked: Asked) -> Response:
        """Has every replica do it. The first that will not speaks for all."""
        answers = await self._all(asked.call)
        if not answers:
            return refuse(asked.path, 503, "there is no replica", _RETRY_AFTER_S)
        answer = max(answers, key=lambda answer: answer.head.status)
        response = Response(answer.body, answer.head.status)
        length = (b"content-length", str(len(answer.body)).encode())
        response.raw_headers = [*passed_on(answer.head.headers, *_SERVES_OWN), length]
        return response

    async def _watched(self, asked: Asked) -> Response:
        """What is told of all replicas together, to whom any of them would tell its metrics."""
        call = Call("GET", "/metrics", asked.call.headers, b"")
        answers = await self._all(call)
        if not answers:
            return refuse(asked.path, 503, "there is no replica", _RETRY_AFTER_S)
        refusal = next((answer for answer in answers if answer.head.status != 200), None)
        if refusal is not None:
            return Response(refusal.body, refusal.head.status, media_type="application/json")
        if asked.path == "/metrics":
            text = merge({answer.replica: answer.body.decode() for answer in answers})
            return Response(text, media_type="text/plain; version=0.0.4")
        told = await self._replicas.broadcast("about").results_async(timeout_s=_WATCH_TIMEOUT_S, return_exceptions=True)
        replicas = [about for about in told if isinstance(about, dict)]
        return Response(json.dumps({"replicas": replicas}), media_type="application/json")


def _target(request: Request) -> str:
    """The path as the client wrote it, with its query."""
    path = request.scope.get("raw_path") or request.url.path.encode()
    query = request.scope.get("query_string", b"")
    return (path + b"?" + query if query else path).decode("latin-1")


def _header(headers: Headers, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in headers if name == wanted), "")
