"""Many clients at once: half-open connections, idle ones, hundreds of streams. Nothing is lost, memory stays flat.

Standard library only; one process and one thread, so that the driver is not what is measured.
"""

import asyncio
import json
import time

from harness import Skip, Suite, equal, expect
from http_client import ask, request_bytes

suite = Suite("crowd")

N_HALF_OPEN = 1500
N_IDLE = 500
N_STREAM = 200
N_FLOOD = 1200
N_TOKEN = 32
SECONDS_HEALTH = 2.0
SECONDS_ALL = 300
# What a second wave may add over the first, which has filled every pool and cache.
GROWTH_BYTES_MAX = 48 << 20


def rss_bytes():
    try:
        with open(f"/proc/{suite.pid}/statm") as statm:
            return int(statm.read().split()[1]) * 4096
    except (OSError, ValueError):
        raise Skip("the server's memory cannot be read here") from None


async def connect():
    host, port = suite.url.split("//")[1].split(":")
    return await asyncio.open_connection(host, int(port))


async def open_many(count):
    """This many connections, a hundred at a time so that no queue of the system overflows."""
    connections = []
    while len(connections) < count:
        batch = min(100, count - len(connections))
        connections += await asyncio.gather(*(connect() for _ in range(batch)))
    return connections


async def close_all(connections):
    for _, writer in connections:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in connections), return_exceptions=True)


async def health():
    """Seconds that `/health` takes on a new connection."""
    start = time.monotonic()
    reader, writer = await connect()
    writer.write(request_bytes(suite.url, "GET", "/health", b"", {"Connection": "close"}))
    status = await reader.readline()
    writer.close()
    expect(b" 200 " in status, status)
    return time.monotonic() - start


async def stream(number):
    """One streamed completion: its status, and whether all of it came."""
    letter = ord("a") + number % 26
    body = {
        "model": suite.model,
        "prompt": f"Say {number}",
        "max_tokens": N_TOKEN,
        "logit_bias": {str(letter): 100},
        "temperature": 0,
        "stream": True,
    }
    reader, writer = await connect()
    try:
        writer.write(request_bytes(suite.url, "POST", "/v1/completions", body, {"Connection": "close"}))
        status = int((await reader.readline()).split()[1])
        rest = await reader.read()
    finally:
        writer.close()
    if status != 200:
        expect(b"retry-after" in rest.lower(), status, rest[:300])
        return status, False
    text = "".join(
        choice["text"]
        for line in rest.split(b"\n")
        if line.startswith(b"data: {")
        for choice in json.loads(line[6:]).get("choices", [])
    )
    return status, b"data: [DONE]" in rest and text == chr(letter) * N_TOKEN


async def wave(count):
    return await asyncio.gather(*(stream(number) for number in range(count)))


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, SECONDS_ALL))


@suite.check(f"{N_HALF_OPEN} half-open connections hold up nobody")
def _():
    async def scene():
        before = rss_bytes()
        connections = await open_many(N_HALF_OPEN)
        for _, writer in connections:
            writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        slowest = max([await asyncio.wait_for(health(), 20) for _ in range(5)])
        grown = rss_bytes() - before
        await close_all(connections)
        expect(slowest < SECONDS_HEALTH, f"/health took {slowest:.2f} s")
        expect(grown < N_HALF_OPEN * (64 << 10), f"{grown} bytes for {N_HALF_OPEN} connections")

    run(scene())


@suite.check(f"{N_STREAM} streams beside {N_IDLE} idle connections: all whole, memory flat")
def _():
    async def scene():
        idle = await open_many(N_IDLE)
        await ask_each(idle)
        await whole_wave()
        first = rss_bytes()
        for _ in range(2):
            await whole_wave()
        grown = rss_bytes() - first
        expect(grown < GROWTH_BYTES_MAX, f"memory grew by {grown} bytes from the first wave to the third")
        await ask_each(idle)
        await close_all(idle)

    run(scene())


async def whole_wave():
    answers = await wave(N_STREAM)
    odd = [answer for answer in answers if answer != (200, True)]
    expect(not odd, f"{len(odd)} of {N_STREAM} are not whole", odd[:5])


async def ask_each(connections):
    """Asks for `/health` on every connection, all at once, and leaves the connections open."""
    for _, writer in connections:
        writer.write(request_bytes(suite.url, "GET", "/health"))
    for reader, _ in connections:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        expect(head.startswith(b"HTTP/1.1 200 "), "an idle connection was not served", head[:100])
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))


@suite.check(f"{N_FLOOD} streams at once: each is whole or told to come again")
def _():
    answers = run(wave(N_FLOOD))
    odd = [answer for answer in answers if answer not in ((200, True), (429, False))]
    equal(odd[:5], [], len(odd))
    expect(sum(whole for _, whole in answers) >= N_STREAM, "hardly anybody was served")


@suite.check("and then all is as before")
def _():
    body = {"model": suite.model, "prompt": "Hello", "max_tokens": 4}
    equal(ask(suite.url, "POST", "/v1/completions", body).status, 200)


suite.main()
