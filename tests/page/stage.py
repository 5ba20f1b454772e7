#!/usr/bin/env python3
"""A server that plays made-up states to the page: the page's own files with their policy, and the routes it asks.

The states are those of crates/server/src/web/fixtures, which a test of the server holds to its types. Here they are only
set in motion; conversations, models and pulls are those of fake.py. `python stage.py [PORT]` plays the busy one until it is
interrupted.
"""

import copy
import http.server
import json
import math
import pathlib
import re
import sys
import threading
import time

from fake import Fake, Routes

WEB = pathlib.Path(__file__).parents[2] / "crates/server/src/web"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


def policy_of_content():
    """The header as the server sends it, out of its source."""
    source = (WEB.parent / "web.rs").read_text()
    literal = re.search(r'const POLICY: &str = "(.*?)";', source, re.S).group(1)
    return re.sub(r"\\\n\s*", "", literal)


def fixture(name):
    return json.loads((WEB / f"fixtures/{name}.json").read_text())


def moved(state, seconds):
    """The state so many seconds on: counters go up, jobs go on."""
    state = copy.deepcopy(state)
    state["at"] += int(seconds * 1e6)
    for number, device in enumerate(state["devices"]):
        device["prefill_tokens"] += int(seconds * 300 * device["busy"])
        device["decode_tokens"] += int(seconds * 25 * device["busy"])
        if device["state"] == "ready":
            wave = math.sin(seconds * (0.13 + 0.05 * number)) + 0.4 * math.sin(seconds * (1.1 + number))
            device["busy"] = max(0.0, min(1.0, device["busy"] + 0.12 * wave))
    # Jobs begin again every eight seconds.
    for job in state["jobs"]:
        done, all_ = job["tokens"]
        job["tokens"][0] = done + int(seconds % 8 * 20) % max(1, all_ - done)
        job["age_s"] += seconds % 8
    return state


class Stage(http.server.ThreadingHTTPServer):
    """What it plays can be changed while it plays."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.state = fixture("busy")
        self.placements = fixture("placements")
        self.receipts = fixture("receipts")
        self.fake = Fake()
        self.key = None
        self.policies = []
        self.policy_error = None
        # Seconds of the past that are told at once, so that pictures need not wait for them.
        self.past_s = 0
        self.begun = time.monotonic()
        self.ending = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (BrokenPipeError, ConnectionResetError)):
            super().handle_error(request, client_address)

    def begin(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def end(self):
        self.ending.set()
        self.shutdown()
        self.server_close()


class Handler(Routes, http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, status, kind, body, **headers):
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        # A browser would keep the connection, and with it a stage that has ended.
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def json(self, value, status=200):
        self.send(status, "application/json", json.dumps(value))

    def refused(self):
        key = self.server.key
        if key is None or self.headers.get("Authorization") == f"Bearer {key}":
            return False
        message = "this API key is unknown" if self.headers.get("Authorization") else "this server needs an API key"
        self.json({"error": {"message": message}}, 401)
        return True

    def do_GET(self):
        name = {"/": "page.html"}.get(self.path) or self.path.removeprefix("/page/")
        file = WEB / name
        if file.suffix in TYPES and ".." not in name and file.is_file():
            self.send(200, TYPES[file.suffix], file.read_bytes(), Content_Security_Policy=policy_of_content())
        elif not self.path.startswith("/api/troika/"):
            self.send(404, "text/plain", "no")
        elif self.refused():
            pass
        elif self.path == "/api/troika/events":
            self.events()
        elif self.path == "/api/troika/state":
            self.json(self.now())
        elif self.path == "/api/troika/receipts" and self.server.receipts:
            self.json(self.server.receipts)
        elif self.path.startswith("/api/troika/placements/"):
            self.json(fixture("done") if self.path.endswith("/done") else self.server.placements)
        elif not self.routed("get"):
            self.json({"error": {"message": "no such route"}}, 404)

    def do_POST(self):
        self.changed("post")

    def do_PATCH(self):
        self.changed("patch")

    def do_DELETE(self):
        self.changed("delete")

    def changed(self, method):
        if not self.refused() and not self.routed(method):
            self.json({"error": {"message": "no such route"}}, 404)

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.refused():
            return
        if self.server.policy_error:
            self.json({"error": {"message": self.server.policy_error}}, 403)
            return
        self.server.state["policy"] = json.loads(body)["policy"]
        self.server.policies.append(self.server.state["policy"])
        self.json({"policy": self.server.state["policy"]})

    def now(self):
        return moved(self.server.state, time.monotonic() - self.server.begun)

    def events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for half_seconds in range(2 * self.server.past_s, 0, -1):
            self.tell(moved(self.server.state, self.server.past_s - half_seconds / 2))
        self.server.begun = time.monotonic() - self.server.past_s
        while not self.server.ending.is_set():
            self.tell(self.now())
            self.server.ending.wait(0.5)
        self.close_connection = True

    def tell(self, state):
        self.wfile.write(f"event: state\ndata: {json.dumps(state)}\n\n".encode())
        self.wfile.flush()


if __name__ == "__main__":
    stage = Stage(int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
    print(stage.address)
    stage.serve_forever()
