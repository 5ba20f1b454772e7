"""The load of bench/serve: closed loops of streamed completions, driven so lightly that the driver is not what counts.

One process, one thread. A stream is an `asyncio.Protocol`: each time bytes come in, their events are counted and the
clock is read once; JSON is parsed for the last events only, which hold the usage. Nothing here knows which program
serves.
"""

import asyncio
import json
import random
import resource
import statistics
import time
from dataclasses import dataclass, field

# Short everyday words, so that every vocabulary splits them into about as many tokens.
WORDS = (
    "the a of and in to on at by with from about after before under over between river house garden window table letter "
    "summer winter morning evening water stone paper silver golden quiet little heavy early late open closed near far "
    "walks talks sees finds keeps gives takes brings holds turns moves stands sits waits asks tells knows thinks child "
    "woman man friend bird horse tree flower road bridge tower village market corner kitchen bread apple music story"
).split()


def text(seed, n_word):
    """Words picked at random: the same for the same seed, and no beginning shared with any other."""
    return " ".join(random.Random(seed).choices(WORDS, k=n_word))


@dataclass
class Request:
    """One request as it went. Times are seconds of the monotonic clock."""

    start: float
    first: float = 0.0
    end: float = 0.0
    # Times at which text came; several events in one read share one time.
    gaps: list = field(default_factory=list)
    n_event: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str = ""


class Stream(asyncio.Protocol):
    """One connection with one request on it."""

    def __init__(self, payload):
        self.payload = payload
        self.request = Request(time.monotonic())
        self.done = asyncio.get_running_loop().create_future()
        self.head = b""
        self.tail = b""
        self.last = 0.0

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.payload)

    def data_received(self, data):
        now = time.monotonic()
        if self.head is not None:
            self.head += data
            head, mark, data = self.head.partition(b"\r\n\r\n")
            if not mark:
                return
            if not head.startswith(b"HTTP/1.1 200"):
                self.request.error = (head.split(b"\r\n", 1)[0] + b" " + data[:200]).decode(errors="replace")
                self.transport.close()
                return
            self.head = None
        # `"text"` stands in events with a choice, and not in that with the usage. An event that is split over two reads
        # counts when its beginning comes.
        self.tail = (self.tail + data)[-8192:]
        events = data.count(b'"text"')
        if events:
            request = self.request
            if request.n_event:
                request.gaps.append(now - self.last)
                request.gaps.extend([0.0] * (events - 1))
            else:
                request.first = now
                request.gaps.extend([0.0] * (events - 1))
            request.n_event += events
            self.last = now
        if self.tail.endswith(b"0\r\n\r\n") or b"data: [DONE]" in data:
            self.transport.close()

    def connection_lost(self, _error):
        request = self.request
        request.end = time.monotonic()
        if not request.error:
            self.read_usage()
        if not self.done.done():
            self.done.set_result(request)

    def read_usage(self):
        request = self.request
        for line in reversed(self.tail.split(b"\n")):
            if line.startswith(b"data: {") and b'"usage"' in line:
                try:
                    usage = json.loads(line[6:]).get("usage")
                except ValueError:
                    continue
                if usage:
                    request.prompt_tokens, request.completion_tokens = usage["prompt_tokens"], usage["completion_tokens"]
                    return
        request.error = "the stream ended without its usage"


def payload(port, path, body):
    """A request as bytes, for a connection of its own."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data


def body(prompt, n_token):
    """A completion of exactly this many tokens, whatever the model would rather say."""
    return {
        "model": "model",
        "prompt": prompt,
        "max_tokens": n_token,
        "temperature": 0.8,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def send(port, request_bytes):
    """Sends one request and waits for its end."""
    loop = asyncio.get_running_loop()
    try:
        _, stream = await loop.create_connection(lambda: Stream(request_bytes), "127.0.0.1", port)
    except OSError as error:
        now = time.monotonic()
        return Request(now, end=now, error=str(error))
    return await stream.done


async def closed_loop(port, payloads, n_stream):
    """`n_stream` clients, each sending its next request when the last has been answered, until none are left."""
    left = iter(payloads)
    requests = []

    async def client():
        for each in left:
            requests.append(await send(port, each))

    await asyncio.gather(*(client() for _ in range(n_stream)))
    return requests


@dataclass
class Result:
    """What one run of the load showed. Times are seconds."""

    tps: float
    ttft_p50: float
    ttft_p99: float
    itl_p50: float
    itl_p99: float
    prompt_tokens: float
    completion_tokens: float
    errors: list
    driver_share: float


def drive(port, payloads, n_stream):
    """Runs a closed loop and sums it up."""
    before, start = cpu_seconds(), time.monotonic()
    requests = asyncio.run(closed_loop(port, payloads, n_stream))
    wall = time.monotonic() - start
    share = (cpu_seconds() - before) / wall
    good = [request for request in requests if not request.error]
    errors = [request.error for request in requests if request.error]
    if not good:
        return Result(0, 0, 0, 0, 0, 0, 0, errors, share)
    seconds = max(request.end for request in good) - min(request.start for request in good)
    ttft = [request.first - request.start for request in good]
    gaps = [gap for request in good for gap in request.gaps] or [0.0]
    return Result(
        tps=sum(request.completion_tokens for request in good) / seconds,
        ttft_p50=statistics.median(ttft),
        ttft_p99=percentile(ttft, 99),
        itl_p50=statistics.median(gaps),
        itl_p99=percentile(gaps, 99),
        prompt_tokens=statistics.fmean(request.prompt_tokens for request in good),
        completion_tokens=statistics.fmean(request.completion_tokens for request in good),
        errors=errors,
        driver_share=share,
    )


def percentile(values, percent):
    """The smallest value that at least this share of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
