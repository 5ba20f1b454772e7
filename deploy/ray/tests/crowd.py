"""Many clients at a time, and when each got its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from stage import MODEL


@dataclass
class Told:
    """What one client was told: `status` is 0 if the connection broke."""

    number: int
    status: int
    text: str
    replica: str
    at_s: float
    took_s: float


@dataclass
class Crowd:
    """`count` requests, `at_once` of them at a time. Every tenth client's prompt and seed are the same."""

    url: str
    count: int
    at_once: int
    tokens: int = 8
    kinds: int = 10
    told: list[Told] = field(default_factory=list)

    def body(self, number: int) -> dict[str, Any]:
        """The request of a client: sampled, but with a seed, so that there is one right answer to each kind."""
        kind = number % self.kinds
        prompt = f"Story number {kind} begins:"
        return {"model": MODEL, "prompt": prompt, "max_tokens": self.tokens, "seed": kind, "ignore_eos": True}

    async def run(self, *meanwhile: Callable[[], Awaitable[None]]) -> float:
        """Sends all, and does other things meanwhile; tells how many seconds the requests took."""
        timeout = aiohttp.ClientTimeout(total=120)
        connector = aiohttp.TCPConnector(limit=0)
        begun = time.monotonic()
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            numbers = iter(range(self.count))
            others = [asyncio.ensure_future(other()) for other in meanwhile]
            await asyncio.gather(*(self._client(session, numbers) for _ in range(self.at_once)))
            took_s = time.monotonic() - begun
            for other in others:
                await other
        return took_s

    async def _client(self, session: aiohttp.ClientSession, numbers: Any) -> None:
        for number in numbers:
            begun = time.monotonic()
            try:
                async with session.post(f"{self.url}/v1/completions", json=self.body(number)) as answer:
                    status, replica = answer.status, answer.headers.get("x-troika-replica", "")
                    text = await answer.text()
                    if status == 200:
                        text = (await answer.json())["choices"][0]["text"]
            except (aiohttp.ClientError, asyncio.TimeoutError) as error:
                status, text, replica = 0, repr(error), ""
            now = time.monotonic()
            self.told.append(Told(number, status, text, replica, now, now - begun))

    def rate(self, from_s: float, to_s: float) -> float:
        """Answers a second between two moments."""
        return sum(from_s <= told.at_s < to_s for told in self.told) / (to_s - from_s)

    def recovered_after(self, moment_s: float, end_s: float, rate: float, window_s: float = 3.0) -> float | None:
        """Seconds from a moment until answers come at this rate and go on to, up to the end.

        Rates are taken over windows; the end of the last one that falls short counts. None if that is the end of all.
        """
        steps = int((end_s - moment_s - window_s) / 0.1)
        short = [step for step in range(steps) if self.rate(at := moment_s + step * 0.1, at + window_s) < rate]
        if not short:
            return 0.0
        return None if short[-1] == steps - 1 else short[-1] * 0.1 + window_s
