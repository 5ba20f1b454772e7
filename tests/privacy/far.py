"""A remote endpoint that writes down every byte that it is sent, and misbehaves as it is told."""

import json
import socket
import threading
import time

MODES = ("well", "error", "busy", "redirect", "stall", "cut", "garbage")


class Far:
    """Listens on an address of the namespace that is not loopback. Speaks as much of OpenAI's interface as is asked."""

    def __init__(self, address, port, redirect_to=None):
        self.address, self.port, self.redirect_to = address, port, redirect_to
        self.mode = "well"
        self.heard = []
        self.requests = 0
        self.lock = threading.Lock()
        self.listener = None

    @property
    def url(self):
        return f"http://{self.address}:{self.port}/v1"

    def up(self):
        self.listener = socket.create_server((self.address, self.port), backlog=512)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def down(self):
        """Nobody listens any more: connections are refused."""
        listener, self.listener = self.listener, None
        if listener:
            # Wakes the thread that accepts.
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def bytes_heard(self):
        with self.lock:
            return b"\n".join(bytes(heard) for heard in self.heard)

    def serve(self, connection):
        heard = bytearray()
        with self.lock:
            self.heard.append(heard)
        try:
            with connection:
                connection.settimeout(30)
                while self.request(connection, heard):
                    pass
        except OSError:
            pass

    def request(self, connection, heard):
        """Reads one request and answers it; whether the connection goes on."""
        start = len(heard)
        while b"\r\n\r\n" not in heard[start:]:
            part = connection.recv(1 << 16)
            if not part:
                return False
            heard += part
        head, _, rest = bytes(heard[start:]).partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        length = int(fields.get(b"content-length", 0))
        while len(rest) < length:
            part = connection.recv(1 << 16)
            if not part:
                return False
            heard += part
            rest += part
        with self.lock:
            self.requests += 1
        return self.answer(connection, rest)

    def answer(self, connection, body):
        def send(status, text, **headers):
            headers = {"Content-Type": "application/json", "Content-Length": len(text), **headers}
            lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
            connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + text)

        match self.mode:
            case "error":
                send("500 Internal Server Error", b'{"error": {"message": "the far side failed"}}')
            case "busy":
                send("429 Too Many Requests", b'{"error": {"message": "come later"}}', Retry_After=1)
            case "redirect":
                send("307 Temporary Redirect", b"", Location=self.redirect_to or "/elsewhere")
            case "stall":
                time.sleep(20)
                return False
            case "cut":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\ndata: {")
                return False
            case "garbage":
                send("200 OK", b"<html>not what was asked for</html>", Content_Type="text/html")
            case _:
                stream(connection, body)
        return True


def stream(connection, body):
    """A short answer as OpenAI streams it."""
    model = json.loads(body or b"{}").get("model", "big")
    chunk = {"id": "far-1", "object": "chat.completion.chunk", "created": 0, "model": model}
    deltas = [{"role": "assistant", "content": "From"}, {"content": " far"}, {"content": " away."}]
    chunks = [{**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    chunks.append({**chunk, "choices": [], "usage": usage})
    lines = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks] + [b"data: [DONE]\n\n"]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    parts = b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in lines)
    connection.sendall(head + parts + b"0\r\n\r\n")
