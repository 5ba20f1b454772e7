"""The actor that owns one `troika serve`, and hands requests to it and answers back, piece by piece."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import ray
from ray import serve
from yarl import URL

from .child import Child
from .numbers import Reading, Window
from .settings import Program
from .wire import Call, Head, Lost, Whole, Wish, passed_on

log = logging.getLogger("ray.serve")

_WATCH_TIMEOUT = aiohttp.ClientTimeout(total=5.0)
# An answer takes as long as it takes; only to connect to this machine must be quick.
_ANSWER_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5.0)


class Replica:
    """One `troika serve`. Serve calls `__init__`, `check_health`, `record_autoscaling_stats`, `__del__`; fronts the rest."""

    async def __init__(self, settings: dict[str, Any]) -> None:  # type: ignore[misc]
        """Starts the program and loads what is to be warm."""
        self._settings = Program(**settings)
        self._name = serve.get_replica_context().replica_id.unique_id
        self._window = Window(self._settings.look_back)
        self._node_watch = asyncio.create_task(_end_with(os.getppid()))
        self._child = Child(self._settings.troika, self._arguments(), self._settings.env, self._settings.start_timeout)
        await self._child.start()
        # The server's own limits count; and no jar, for cookies of one client are not another's.
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), timeout=_ANSWER_TIMEOUT
        )
        for model in self._settings.warm:
            await self._warm(model)

    async def __del__(self) -> None:
        """Serve has let requests finish by now. What it gave up on gets the server's own time to drain."""
        if hasattr(self, "_session"):
            await self._child.end(self._settings.drain_timeout)
            await self._session.close()

    def _arguments(self) -> list[str]:
        settings = self._settings
        flags = ["--drain-timeout", f"{settings.drain_timeout:g}s"]
        if settings.keys_file is not None:
            flags += ["--keys-file", settings.keys_file]
        return [*flags, *settings.serve_args]

    def _authorization(self) -> dict[str, str]:
        key = os.environ.get(self._settings.key_variable)
        return {"authorization": f"Bearer {key}"} if key else {}

    async def _warm(self, model: str) -> None:
        """Loads a model. One that cannot be loaded is the configuration's mistake, and this replica does not come up."""
        timeout = aiohttp.ClientTimeout(total=self._settings.warm_timeout)
        body = {"model": model, "keep_alive": -1, "stream": False}
        url = f"{self._child.url}/api/generate"
        async with self._session.post(url, json=body, headers=self._authorization(), timeout=timeout) as answer:
            if answer.status != 200:
                raise RuntimeError(f"warm: {model}: {answer.status}: {(await answer.text())[:300]}")

    async def check_health(self) -> None:
        """Serve's hook: raises if this replica should be given up.

        A program that died is started anew here, which is quicker than a new actor. So only a program that stays away,
        or does not answer, is ill.
        """
        url = self._child.url
        if url is None:
            raise RuntimeError(f"troika is not there; it was started anew {self._child.restarts} times")
        async with self._session.get(f"{url}/health", timeout=_WATCH_TIMEOUT) as answer:
            answer.raise_for_status()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve's hook: what `scaling` reads. Nothing while the program is away, or its metrics want a key."""
        url = self._child.url
        if url is None:
            return {}
        try:
            path = f"{url}/metrics"
            async with self._session.get(path, headers=self._authorization(), timeout=_WATCH_TIMEOUT) as answer:
                if answer.status != 200:
                    log.warning("no metrics to scale by: %s; is a key in %s?", answer.status, self._settings.key_variable)
                    return {}
                return self._window.add(time.monotonic(), Reading.of(await answer.text()))
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            log.warning("no metrics to scale by: %r", error)
            return {}

    async def ask(self, call: Call, wish: Wish) -> AsyncIterator[str | Head | bytes | Lost]:
        """Hands a request to the program. `wish` is read on the way here.

        When the caller stops listening, the connection to the program is closed, which ends the job there.
        """
        yield self._name
        url = self._child.url
        if url is None:
            yield Lost(sent=False, why="troika is being started anew")
            return
        try:
            async with self._request(url, call) as answer:
                yield Head(answer.status, [(name.lower(), value) for name, value in answer.raw_headers])
                async for piece in answer.content.iter_any():
                    yield piece
        except aiohttp.ClientConnectorError as error:
            yield Lost(sent=False, why=f"troika cannot be reached: {error}")
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            yield Lost(sent=True, why=f"troika broke off: {error!r}")

    async def ask_whole(self, call: Call) -> Whole | None:
        """The same for an answer that is short and wanted from every replica; None if there is none."""
        head, pieces = None, []
        async for part in self.ask(call, Wish()):
            if isinstance(part, Lost):
                return None
            if isinstance(part, Head):
                head = part
            elif isinstance(part, bytes):
                pieces.append(part)
        return None if head is None else Whole(self._name, head, b"".join(pieces))

    async def about(self) -> dict[str, Any]:
        """Who this is, for those who watch."""
        return {
            "replica": self._name,
            "node": ray.get_runtime_context().get_node_id(),
            "actor_pid": os.getpid(),
            "troika_pid": self._child.pid,
            "restarts": self._child.restarts,
        }

    def _request(self, url: str, call: Call) -> Any:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in passed_on(call.headers, b"host")]
        return self._session.request(
            call.method,
            # As it came: what is escaped stays so.
            URL(url + call.target, encoded=True),
            headers=headers,
            data=call.body or None,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )


async def _end_with(raylet: int) -> None:
    """Ends this process, and with it the program, when Ray's process on this node is gone.

    Ray leaves actors running then, though to the cluster the node is dead and others take their place: a GPU and its
    memory would stay taken by one that nobody asks.
    """
    while os.getppid() == raylet:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(1.0)
    log.error("the node's raylet is gone, and so this replica ends")
    os._exit(1)
