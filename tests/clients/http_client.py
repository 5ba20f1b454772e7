"""HTTP/1.1 by hand, on plain sockets: for what no well-behaved client would send. Standard library only."""

import json
import socket
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

HEAD_BYTES_MAX = 64 << 10


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict
    body: bytes
    seconds: float

    def json(self):
        """The body as JSON; raises with its beginning if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise AssertionError(f"status {self.status}, and the body is no JSON: {self.body[:300]!r}") from None

    @property
    def message(self):
        """The error's text, in the shape of any of the interfaces."""
        error = self.json().get("error", "")
        return error.get("message", "") if isinstance(error, dict) else error


def free_port():
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def connect(url, timeout=30):
    """A connection to the server."""
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def request_bytes(url, method, path, body=b"", headers=None):
    """A request as bytes. `body` is bytes or something to be sent as JSON; a header that is None is left out."""
    if not isinstance(body, (bytes, bytearray)):
        body = json.dumps(body).encode()
    all_headers = {"Host": urlsplit(url).netloc, "Content-Type": "application/json", "Content-Length": str(len(body))}
    all_headers.update(headers or {})
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers.items() if value is not None)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + bytes(body)


def ask(url, method, path, body=b"", headers=None, timeout=60):
    """Sends a request on a connection of its own and reads the whole answer."""
    start = time.monotonic()
    with connect(url, timeout) as connection:
        try:
            connection.sendall(request_bytes(url, method, path, body, {"Connection": "close", **(headers or {})}))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server may answer before it has read everything
        return read_answer(connection, start)


def read_answer(connection, start=None):
    """Reads one answer: by its length, in chunks, or to the end of the connection."""
    start = time.monotonic() if start is None else start
    reader = connection.makefile("rb")
    status_line = reader.readline(HEAD_BYTES_MAX)
    if not status_line:
        raise ConnectionError("the connection was closed without an answer")
    status = int(status_line.split()[1])
    headers = {}
    while (line := reader.readline(HEAD_BYTES_MAX).strip()) != b"":
        name, _, value = line.partition(b":")
        headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b"".join(chunks(reader))
    elif "content-length" in headers:
        body = reader.read(int(headers["content-length"]))
    else:
        body = reader.read()
    return Answer(status, headers, body, time.monotonic() - start)


def chunks(reader):
    """The parts of a body in chunks, until its end."""
    while True:
        size_line = reader.readline(HEAD_BYTES_MAX)
        if not size_line:
            raise ConnectionError("the connection was closed in the middle of a body")
        size = int(size_line.split(b";")[0], 16)
        part = reader.read(size)
        reader.readline(HEAD_BYTES_MAX)
        if size == 0:
            return
        if len(part) < size:
            raise ConnectionError("the connection was closed in the middle of a chunk")
        yield part


def open_stream(url, path, body, timeout=60):
    """Sends a request and reads the answer's head; gives the connection and a reader of the rest."""
    connection = connect(url, timeout)
    connection.sendall(request_bytes(url, "POST", path, body))
    reader = connection.makefile("rb")
    status = int(reader.readline(HEAD_BYTES_MAX).split()[1])
    while reader.readline(HEAD_BYTES_MAX).strip():
        pass
    if status != 200:
        connection.close()
        raise ConnectionError(f"status {status} in place of a stream")
    return connection, reader


def stream_lines(url, path, body, timeout=60):
    """The lines of a streamed answer, without the empty ones, as they come."""
    connection, reader = open_stream(url, path, body, timeout)
    with connection:
        rest = b""
        for part in chunks(reader):
            *lines, rest = (rest + part).split(b"\n")
            yield from (line.strip() for line in lines if line.strip())
