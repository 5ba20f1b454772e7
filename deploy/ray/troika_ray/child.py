"""One `troika serve`: started, watched, started anew when it dies, drained and ended.

It listens on 127.0.0.1 at a port that the system picks, so nothing but its actor reaches it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import signal
import sys
import time
from collections import deque
from pathlib import Path

from . import leash

log = logging.getLogger("ray.serve")

_ADDRESS = re.compile(rb"Troika listens on (http://127\.0\.0\.1:\d+)")
# A program that lived for this long did not die of how it was started.
_STEADY_S = 60.0
_BACKOFF_S_MAX = 10.0


class ChildError(Exception):
    """The program does not start, or does not say where it listens."""


class Child:
    """A program and its address. `url` is None while it is not there."""

    def __init__(self, program: str, args: list[str], env: dict[str, str], start_s: float) -> None:
        """`env` is added to the actor's own variables; `start_s` is the time to listen."""
        self.url: str | None = None
        self.restarts = 0
        self._program = program
        self._args = args
        self._env = {**os.environ, **env}
        self._start_s = start_s
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._ending = False
        self._last_words: deque[str] = deque(maxlen=20)

    @property
    def pid(self) -> int | None:
        """The process, None while there is none."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Starts the program and waits until it listens.

        Raises `ChildError` with the program's last words if it ends before, or takes longer than it may.
        """
        await self._spawn()
        self._watch = asyncio.create_task(self._keep())

    async def end(self, drain_s: float) -> None:
        """Lets running answers finish for so many seconds, then ends the program."""
        self._ending, self.url = True, None
        if self._watch:
            self._watch.cancel()
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), drain_s)
        except asyncio.TimeoutError:
            log.warning("troika did not drain in %.0f s and is killed", drain_s)
            process.kill()
            await process.wait()

    async def _spawn(self) -> None:
        program = shutil.which(self._program)
        if program is None:
            raise ChildError(f"there is no program `{self._program}` on this node; set `troika` to its path")
        command = [sys.executable, "-I", "-S", str(Path(leash.__file__)), str(os.getpid()), program, "serve"]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            *("--host", "127.0.0.1", "--port", "0"),
            *self._args,
            env=self._env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        listens: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read(self._process, listens))
        try:
            self.url = await asyncio.wait_for(listens, self._start_s)
        except asyncio.TimeoutError:
            self._process.kill()
            raise ChildError(f"troika did not listen in {self._start_s:.0f} s: {self._words()}") from None

    async def _read(self, process: asyncio.subprocess.Process, listens: asyncio.Future[str]) -> None:
        """Passes the program's log on to the actor's, and finds the address in it."""
        assert process.stderr is not None
        while line := await self._line(process.stderr):
            text = line.decode(errors="replace").rstrip()
            self._last_words.append(text)
            print(text, file=sys.stderr, flush=True)
            found = _ADDRESS.search(line)
            if found and not listens.done():
                listens.set_result(found[1].decode())
        code = await process.wait()
        if not listens.done():
            listens.set_exception(ChildError(f"troika ended with status {code}: {self._words()}"))

    @staticmethod
    async def _line(stream: asyncio.StreamReader) -> bytes:
        """A line; of one that is longer than any should be, a part."""
        try:
            return await stream.readuntil(b"\n")
        except asyncio.IncompleteReadError as short:
            return short.partial
        except asyncio.LimitOverrunError as long:
            return await stream.read(long.consumed)

    async def _keep(self) -> None:
        """Starts the program anew whenever it ends, later each time if it ends at once."""
        failures = 0
        while not self._ending:
            assert self._process is not None
            begun = time.monotonic()
            code = await self._process.wait()
            self.url = None
            failures = 0 if time.monotonic() - begun > _STEADY_S else failures + 1
            wait_s = 0.0 if failures <= 1 else min(0.25 * 2.0**failures, _BACKOFF_S_MAX)
            log.error("troika ended with status %s and is started anew in %.1f s: %s", code, wait_s, self._words())
            await asyncio.sleep(wait_s)
            self.restarts += 1
            with contextlib.suppress(ChildError):
                await self._spawn()

    def _words(self) -> str:
        return " | ".join(list(self._last_words)[-5:]) or "no word why"
