"""One replica's try at a request, up to the point from which it cannot be taken back.

That point is the first byte of a stream, and the last byte of any other answer: until then the client has seen nothing,
and another replica can be asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException

from .wire import Head, Lost

# A longer answer is passed on as it comes, and cannot be taken back any more.
_HELD_BYTES_MAX = 32 << 20
_STREAMS = (b"text/event-stream", b"application/x-ndjson")


class Attempt:
    """`replica` is who has it, None as long as nobody is known to; `head` is there once it has begun."""

    def __init__(self, parts: Any) -> None:
        """`parts` is the stream of `Replica.ask`, as Serve hands it out."""
        self.replica: str | None = None
        self.head: Head | None = None
        self._parts = parts
        self._held: list[bytes] = []
        self._done = False

    async def begin(self, patience_s: float) -> Lost | None:
        """Waits for an answer that can be passed on; tells why there will be none.

        Raises what Serve says if it does not take the request at all.
        `patience_s` is the time until a replica takes the request. How long its answer takes is its own affair.
        """
        try:
            self.replica = await asyncio.wait_for(self._parts.__anext__(), patience_s)
        except asyncio.TimeoutError:
            return Lost(sent=False, why=f"no replica had room for it in {patience_s:.0f} s")
        except (BackPressureError, DeploymentUnavailableError):
            raise  # No replica's word, but Serve's: it was given to none.
        except StopAsyncIteration:
            return Lost(sent=False, why="the replica said nothing")
        except (RayError, RayServeException) as error:
            # Serve gave it to a replica, perhaps; whether it got further, nobody knows.
            return Lost(sent=True, why=f"the replica is gone: {type(error).__name__}")
        head = await self._next()
        if not isinstance(head, Head):
            return head if isinstance(head, Lost) else Lost(sent=True, why="the replica broke off")
        held = 0
        while held <= _HELD_BYTES_MAX:
            part = await self._next()
            if isinstance(part, Lost):
                return part
            if part is None:
                self._done = True
                break
            self._held.append(part)
            held += len(part)
            if _is_stream(head):
                break
        self.head = head
        return None

    def whole(self) -> bytes | None:
        """The answer, if all of it is there."""
        return b"".join(self._held) if self._done else None

    async def rest(self) -> AsyncIterator[bytes | Lost]:
        """What was held, and all that comes. A `Lost` is the last."""
        for piece in self._held:
            yield piece
        self._held.clear()
        while not self._done:
            part = await self._next()
            if part is None:
                return
            yield part
            if isinstance(part, Lost):
                return

    def close(self) -> None:
        """Nobody wants the rest: the replica is told, and ends the job."""
        if not self._done:
            self._done = True
            # What went wrong before stands in the way of cancelling, too, and has been told.
            with contextlib.suppress(RayError, RayServeException):
                self._parts.cancel()

    async def _next(self) -> Any:
        """The next part, None at the end."""
        try:
            return await self._parts.__anext__()
        except StopAsyncIteration:
            self._done = True
            return None
        except (RayError, RayServeException) as error:
            return Lost(sent=True, why=f"the replica is gone: {type(error).__name__}")


def _is_stream(head: Head) -> bool:
    return any(name == b"content-type" and value.startswith(_STREAMS) for name, value in head.headers)
