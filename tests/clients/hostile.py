"""Bad input, over plain sockets: the right status, the interface's own body, soon, and the next request is served.

After every attack an ordinary request has to be answered. Standard library only.
"""

import json
import socket
import time

from harness import Suite, each, equal, expect
from http_client import ask, connect, open_stream, read_answer, request_bytes, stream_lines

suite = Suite("bad input")

# A refusal is no work. Debug builds on busy machines get room all the same.
SECONDS_TO_REFUSE = 5.0
SECONDS_TO_CANCEL = 2.0
SECONDS_TO_DROP_SLOW = 75.0
GROWTH_BYTES_MAX = 256 << 20

MESSAGES = [{"role": "user", "content": "Hello"}]
# Every route that takes a body, with the least that it needs.
ROUTES = {
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 4},
    "/v1/completions": {"prompt": "Hello", "max_tokens": 4},
    "/v1/responses": {"input": "Hello", "max_output_tokens": 16},
    "/v1/embeddings": {"input": "Hello"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 4},
    "/v1/messages/count_tokens": {"messages": MESSAGES},
    "/api/chat": {"messages": MESSAGES, "stream": False, "options": {"num_predict": 4}},
    "/api/generate": {"prompt": "Hello", "stream": False, "options": {"num_predict": 4}},
    "/api/embed": {"input": "Hello"},
    "/api/show": {},
}


def check(name):
    """A check after which the server has to serve an ordinary request as before."""

    def register(function):
        def checked():
            function()
            still_serves()

        return suite.check(name)(checked)

    return register


def still_serves():
    body = {"model": suite.model, "prompt": "Hello", "max_tokens": 4, "temperature": 0}
    answer = ask(suite.url, "POST", "/v1/completions", body)
    equal(
        (answer.status, answer.json()["object"]), (200, "text_completion"), "the next request is not served", answer.body[:300]
    )


def body_of(path, **more):
    return {"model": suite.model, **ROUTES[path], **more}


def refused(path, body, statuses=(400,), seconds=SECONDS_TO_REFUSE, method="POST", headers=None):
    """Sends what has to be refused with one of these statuses, in the shape of its interface, soon."""
    answer = ask(suite.url, method, path, body, headers)
    shown = body[:80] if isinstance(body, bytes) else json.dumps(body)[:200]
    expect(answer.status in statuses, f"{method} {path} {shown} -> {answer.status}, not {statuses}:", answer.body[:300])
    expect(answer.seconds < seconds, f"{method} {path} {shown} took {answer.seconds:.1f} s")
    check_shape(path, answer)
    return answer


def check_shape(path, answer):
    """An error's body is what the clients of its interface read."""
    body = answer.json()
    facts = (path, answer.status, answer.body[:300])
    if path.startswith("/v1/messages"):
        expect(body.get("type") == "error" and body["error"].get("type") and body["error"].get("message"), *facts)
    elif path.startswith("/v1/"):
        error = body.get("error")
        expect(isinstance(error, dict) and error.get("message") and error.get("type"), *facts)
        expect("param" in error and "code" in error, *facts)
    elif path.startswith("/api/"):
        expect(isinstance(body.get("error"), str) and body["error"], *facts)


def rss_bytes():
    """The server's resident memory; 0 where it cannot be read."""
    try:
        with open(f"/proc/{suite.pid}/statm") as statm:
            return int(statm.read().split()[1]) * 4096
    except (OSError, ValueError):
        return 0


def jobs_running():
    """How many jobs are in the works, by the server's own metrics."""
    text = ask(suite.url, "GET", "/metrics").body.decode()
    lines = [line for line in text.splitlines() if line.startswith(("troika_jobs_running", "troika_jobs_queued"))]
    expect(lines, "there is no metric troika_jobs_running")
    return sum(float(line.split()[-1]) for line in lines)


def wait_for_idle(seconds=SECONDS_TO_CANCEL):
    start = time.monotonic()
    while jobs_running() > 0:
        expect(time.monotonic() - start < seconds, f"the job still runs {seconds} s after its client left")
        time.sleep(0.02)


# --- bodies ---------------------------------------------------------------------------------------------------------


@check("a body that is no JSON")
def _():
    broken = [b"", b"{", b"}", b"\xff\xfe\x00", b'{"model": "x\xff"}', b"null", b"7", b"[]", b'"text"', b"{'model': 1}"]
    broken += [b'{"model": "x"} {"model": "y"}', b'{"model": "\\ud800"}', b'{"model": NaN}', b"\x00" * 100]
    each([(path, body) for path in ROUTES for body in broken], refused)


@check("a body of wrong types")
def _():
    wrong = [7, -1.5, True, "text", {}, {"a": {}}, [[]], [7]]
    cases = []
    for path, least in ROUTES.items():
        fields = [(field, value) for field in ["model", *least] for value in wrong if wrong_for(field, value)]
        cases += [
            (path, body_of(path, **{field: value}), (400, 404) if field == "model" else (400,)) for field, value in fields
        ]
        # Without a prompt `generate` loads the model, and `chat` without messages does.
        if least and not path.startswith("/api/"):
            cases += [(path, {"model": suite.model})]
        cases += [(path, dict(least))]
    each(cases, refused)


def wrong_for(field, value):
    """Whether this is of a wrong type for this field."""
    if isinstance(value, str):
        return field in ("messages", "max_tokens", "max_output_tokens", "stream", "options")
    if field == "options" and isinstance(value, dict):
        return False
    if field == "stream" and isinstance(value, bool):
        return False
    if field in ("input", "prompt") and value == [7]:
        return False  # a list of tokens
    return not (field in ("max_tokens", "max_output_tokens") and value == 7)


@check("numbers that are none, or out of range")
def _():
    path = "/v1/chat/completions"
    start = json.dumps(body_of(path))[:-1].encode()
    numbers = (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"0x10", b"1e30", b"-1", b"99")
    each([(path, start + b', "temperature": ' + number + b"}") for number in numbers], refused)
    numbers = (b"1e999", b"1e30", b"-5", b"1.5", b"18446744073709551616", b"null1")
    each([(path, start + b', "max_completion_tokens": ' + number + b"}") for number in numbers], refused)
    fields = [
        ("n", 10**9),
        ("n", -1),
        ("top_p", -0.1),
        ("frequency_penalty", 1e9),
        ("top_logprobs", 10**6),
        ("seed", 1.5),
        ("logit_bias", {"-1": 1}),
        ("logit_bias", {"x": 1}),
        ("logit_bias", {"4294967299": 1}),
        ("stop", ["x"] * 100_000),
        ("stop", 7),
    ]
    each([(path, body_of(path, **{"logprobs": True, field: value})) for field, value in fields], refused)
    path = "/api/generate"
    options = [("temperature", -1), ("top_k", -5), ("num_ctx", 10**12), ("num_predict", 1.5), ("top_p", 7), ("stop", 7)]
    each([(path, body_of(path, options={field: value})) for field, value in options], refused)
    refused("/v1/messages", body_of("/v1/messages", top_k=-3))
    each([("/v1/embeddings", body_of("/v1/embeddings", dimensions=value)) for value in (0, -1, 10**9, 1.5)], refused)


@check("fields that nobody knows are let be")
def _():
    for path in ROUTES:
        answer = ask(suite.url, "POST", path, body_of(path, **{"user": "ann", "x_new": {"a": [1]}}))
        equal(answer.status, 200, path, answer.body[:300])


@check("an unknown model")
def _():
    for path in ROUTES:
        for name in (
            "no-such-model",
            "no/such:model",
            "",
            "../tiny-chat",
            "..",
            "/etc/passwd",
            "a" * 10_000,
            "\u0000",
            "tiny-chat\n",
        ):
            answer = refused(path, body_of(path, model=name), (404, 400))
            if name == "no-such-model":
                equal(answer.status, 404, path)
                expect(name in answer.message, answer.body)
    for name in ("../escaped", "a/../../b", "..", "", "C:\\x", "con\u0000"):
        refused("/api/copy", {"source": suite.model, "destination": name})
        refused("/api/create", {"model": name, "from": suite.model, "stream": False})


@check("JSON that is deep")
def _():
    for deep in (b"[" * 100_000, b'{"a":' * 100_000, b"[" * 50_000 + b"]" * 50_000):
        for path, least in ROUTES.items():
            refused(path, deep)
            for field in least:
                refused(path, json.dumps(body_of(path, **{field: "HERE"})).encode().replace(b'"HERE"', deep))
    for field in ("tools", "response_format", "chat_template_kwargs", "logit_bias", "stop"):
        body = json.dumps(body_of("/v1/chat/completions", **{field: "HERE"})).encode()
        refused("/v1/chat/completions", body.replace(b'"HERE"', b'[{"function":' * 50_000 + b"1" + b"}]" * 50_000))
    # What nobody reads may be as deep as it likes.
    body = json.dumps(body_of("/v1/chat/completions", x_new="HERE")).encode()
    answer = ask(suite.url, "POST", "/v1/chat/completions", body.replace(b'"HERE"', b"[" * 50_000 + b"]" * 50_000))
    expect(answer.status in (200, 400), answer.status)


@check("a prompt beyond the context names both numbers")
def _():
    long = "x y " * 40_000
    for path, field in [("/v1/completions", "prompt"), ("/v1/responses", "input"), ("/v1/embeddings", "input")]:
        two_numbers(refused(path, body_of(path, **{field: long})))
    for path in ("/v1/chat/completions", "/v1/messages"):
        two_numbers(refused(path, body_of(path, messages=[{"role": "user", "content": long}])))


def two_numbers(answer):
    words = "".join(c if c.isdigit() else " " for c in answer.message.replace(",", "")).split()
    expect(len([word for word in words if int(word) > 500]) >= 2, answer.message)


@check("a body of 100 MB is refused, and takes no memory")
def _():
    before = rss_bytes()
    for framing in ({"Content-Length": str(100 << 20)}, {"Transfer-Encoding": "chunked", "Content-Length": None}):
        answer = send_much(framing, 100 << 20)
        expect(answer is None or answer.status in (413, 400), answer)
        if answer is not None:
            check_shape("/v1/completions", answer)
    expect(rss_bytes() - before < GROWTH_BYTES_MAX, f"{before} bytes became {rss_bytes()}")
    # The server may wait for some of the body, so that a client that is still sending gets to see the refusal.
    refused("/v1/completions", b"", (413,), seconds=2 * SECONDS_TO_REFUSE, headers={"Content-Length": str(10**15)})


def send_much(framing, size):
    """Sends a body until the server has had enough; gives its answer, `None` if it only hung up."""
    part = b'"' + b"a" * 65_533 + b'"\n'
    sent = 0
    with connect(suite.url) as connection:
        try:
            connection.sendall(request_bytes(suite.url, "POST", "/v1/completions", b"", framing))
            while sent < size:
                frame = (
                    part if "Content-Length" in framing and framing["Content-Length"] else b"%x\r\n%s\r\n" % (len(part), part)
                )
                connection.sendall(frame)
                sent += len(part)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            pass
        try:
            return read_answer(connection)
        except (ConnectionError, ValueError):
            return None


@check("a prompt of many megabytes is refused soon")
def _():
    before = rss_bytes()
    for text in ("a" * (64 << 20), "word " * (2 << 20), "\n" * (4 << 20), "é" * (2 << 20)):
        refused("/v1/completions", body_of("/v1/completions", prompt=text), (400, 413))
    refused("/api/chat", body_of("/api/chat", messages=[{"role": "user", "content": "x " * (4 << 20)}]), (400, 413))
    expect(rss_bytes() - before < GROWTH_BYTES_MAX, f"{before} bytes became {rss_bytes()}")


# --- structure ------------------------------------------------------------------------------------------------------


def with_schema(schema, **more):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return body_of("/v1/chat/completions", response_format=form, **more)


@check("schemas that are bombs")
def _():
    before = rss_bytes()
    nested = b'{"type":"array","items":' * 5_000 + b"{}" + b"}" * 5_000
    body = json.dumps(with_schema("HERE")).encode().replace(b'"HERE"', nested)
    refused("/v1/chat/completions", body)
    bad = (
        {"type": "array", "items": {"type": "integer"}, "minItems": 10**9},
        {"type": "string", "minLength": 10**9},
        {"type": "string", "pattern": "["},
        {"type": "nothing"},
        {"$ref": "#/$defs/absent"},
        {"$ref": "https://schemas.example/x.json"},
        {"type": 7},
        {"enum": []},
        7,
        "text",
        [],
    )
    each([("/v1/chat/completions", with_schema(schema)) for schema in bad], refused)
    # These are schemas; whether one is taken or refused, it is soon.
    for schema in (
        {"enum": [f"value {number}" for number in range(20_000)]},
        {"type": "object", "properties": {f"p{number}": {"type": "integer"} for number in range(3_000)}},
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        {"allOf": [{"anyOf": [{"type": "object", "properties": {f"a{i}{j}": {}}} for j in range(8)]} for i in range(8)]},
        {"type": "string", "pattern": "^(a+)+$"},
        {"type": "string", "pattern": "(a{1000}){1000}"},
        {"type": "string", "pattern": "((((a{99}){99}){99}){99}){99}"},
        {"type": "string", "pattern": "(?=x)y"},
    ):
        answer = ask(suite.url, "POST", "/v1/chat/completions", with_schema(schema))
        expect(
            answer.status in (200, 400) and answer.seconds < 2 * SECONDS_TO_REFUSE,
            str(schema)[:80],
            answer.status,
            answer.seconds,
        )
    expect(rss_bytes() - before < GROWTH_BYTES_MAX, f"{before} bytes became {rss_bytes()}")
    refused("/api/chat", body_of("/api/chat", format={"type": "string", "pattern": "["}))
    refused("/api/chat", body_of("/api/chat", format="yaml"))


@check("tools that make no sense, and too many of them")
def _():
    path = "/v1/chat/completions"

    def tool(**function):
        return {"type": "function", "function": function}

    bad = [7, [7], [{}], [{"type": "x"}], [tool()], [tool(name="")], [tool(name=7)]]
    bad += [[tool(name="x", parameters=parameters)] for parameters in (7, {"type": 7}, {"type": "nothing"}, {"properties": 5})]
    each([(path, body_of(path, tools=tools, tool_choice="required")) for tools in bad], refused)
    refused(path, body_of(path, tools=[tool(name="x")], tool_choice="sometimes"))
    refused(path, body_of(path, tool_choice="required"))
    many = [tool(name=f"tool_{number}", parameters={"type": "object"}) for number in range(20_000)]
    refused(path, body_of(path, tools=many, tool_choice="required"))


@check("templates that fail")
def _():
    for template in (
        "{% if %}",
        "{{ raise_exception('not like this') }}",
        "{% for i in range(10**9) %}x{% endfor %}",
        "{{ 'x' * 10**12 }}",
    ):
        made = ask(
            suite.url, "POST", "/api/create", {"model": "broken", "from": suite.model, "template": template, "stream": False}
        )
        expect(made.status in (200, 400), made.status, made.body[:300])
        if made.status == 200:
            refused("/v1/chat/completions", body_of("/v1/chat/completions", model="broken"), seconds=2 * SECONDS_TO_REFUSE)
            ask(suite.url, "DELETE", "/api/delete", {"model": "broken"})


# --- HTTP -----------------------------------------------------------------------------------------------------------


@check("pages of other sites, and names that are not this machine's")
def _():
    path, body = "/v1/completions", body_of("/v1/completions")
    for headers in (
        {"Host": "evil.example"},
        {"Host": "evil.example:11435"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "null"},
    ):
        refused(path, body, (403,), headers=headers)
        equal(ask(suite.url, "GET", "/api/tags", headers=headers).status, 403, headers)
    port = suite.url.rsplit(":", 1)[1]
    for headers in ({"Host": f"localhost:{port}"}, {"Host": "localhost"}, {"Host": f"[::1]:{port}"}):
        equal(ask(suite.url, "POST", path, body, headers).status, 200, headers)
    answer = ask(suite.url, "OPTIONS", path, b"", {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"})
    expect("access-control-allow-origin" not in answer.headers, answer.headers)


@check("routes that are not there, and methods that routes do not have")
def _():
    for path in ("/v1/nothing", "/v1/chat", "/v1/messages/nothing", "/api/nothing", "/v1/models/no-such-model"):
        refused(path, b"", (404,), method="GET")
    for path in ROUTES:
        answer = refused(path, b"", (405,), method="GET")
        expect("POST" in answer.headers.get("allow", ""), path, answer.headers)
    equal(ask(suite.url, "GET", "/nothing").status, 404)
    for path in ("/health", "/ready", "/metrics", "/api/version", "/api/tags", "/v1/models"):
        equal(ask(suite.url, "GET", path).status, 200, path)


@check("requests that are not quite HTTP")
def _():
    host = suite.url.split("//")[1].encode()
    start = b"POST /v1/completions HTTP/1.1\r\nHost: " + host + b"\r\n"

    def refuses(raw):
        with connect(suite.url, timeout=20) as connection:
            try:
                connection.sendall(raw)
                answer = read_answer(connection)
                expect(400 <= answer.status < 500, raw[:60], answer.status)
            except (BrokenPipeError, ConnectionError):
                pass  # hanging up is an answer, too

    odd = (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n",
        start + b"X-Long: " + b"a" * 2_000_000 + b"\r\n\r\n",
        start + b"".join(b"X-%d: 1\r\n" % number for number in range(20_000)) + b"\r\n",
        start + b"Content-Length: -1\r\n\r\n",
        start + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        start + b"Content-Length: 99999999999999999999999\r\n\r\n",
        start + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
        start + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        start + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET /evil",
        start + b"X: \x00\r\nContent-Length: 0\r\n\r\n",
    )
    each([(raw,) for raw in odd], refuses)


@check("requests in a row on one connection, and all at once")
def _():
    body = body_of("/v1/completions", temperature=0)
    request = request_bytes(suite.url, "POST", "/v1/completions", body)
    with connect(suite.url) as connection:
        for _ in range(5):
            connection.sendall(request)
            equal(read_answer(connection).status, 200)
        # A refused body leaves the connection in order, or closed.
        connection.sendall(request_bytes(suite.url, "POST", "/v1/completions", b"{") + request)
        reader = connection.makefile("rb")
        expect(b" 400 " in reader.readline(), "a bad body in a row")


# --- clients that leave, and clients that are slow ------------------------------------------------------------------


LONG = {"max_tokens": 3000, "logit_bias": {"97": 100}, "ignore_eos": True}


@check("a client that leaves in mid-stream ends its job within a step")
def _():
    for path, more in [("/v1/completions", {"stream": True, **LONG}), ("/v1/chat/completions", {"stream": True, **LONG})]:
        connection, reader = open_stream(suite.url, path, body_of(path, **more))
        reader.read(200)
        expect(jobs_running() >= 1, "the job does not show in the metrics")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        reader.close()
        connection.close()
        wait_for_idle()


@check("a client that leaves before its answer ends its job, too")
def _():
    for path, more in [
        ("/v1/completions", LONG),
        ("/api/generate", {"options": {"num_predict": 3000}}),
        ("/v1/completions", {**LONG, "n": 4}),
        ("/v1/completions", {"prompt": "x y " * 700, **LONG}),
    ]:
        with connect(suite.url) as connection:
            connection.sendall(request_bytes(suite.url, "POST", path, body_of(path, **more)))
            time.sleep(0.3)
        wait_for_idle()


@check("a client that reads nothing holds up nobody")
def _():
    stalled = []
    for _ in range(8):
        connection = connect(suite.url)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.sendall(request_bytes(suite.url, "POST", "/v1/completions", body_of("/v1/completions", stream=True, **LONG)))
        stalled.append(connection)
    still_serves()
    for connection in stalled:
        connection.close()
    wait_for_idle()


@check("slow clients are dropped, and hold up nobody meanwhile")
def _():
    head = request_bytes(suite.url, "POST", "/v1/completions", b"", {"Content-Length": "1000"})
    slow = {"header": connect(suite.url), "body": connect(suite.url), "silence": connect(suite.url)}
    slow["header"].sendall(head[:20])
    slow["body"].sendall(head)
    left, start = {"header", "body"}, time.monotonic()
    while left and time.monotonic() - start < SECONDS_TO_DROP_SLOW:
        for name in sorted(left):
            try:
                slow[name].settimeout(0.05)
                if slow[name].recv(4096) == b"" or name == "body":
                    left.discard(name)
                    continue
            except TimeoutError:
                pass
            except ConnectionError:
                left.discard(name)
                continue
            try:
                slow[name].sendall(b"a")
            except ConnectionError:
                left.discard(name)
        equal(ask(suite.url, "GET", "/health").status, 200)
        time.sleep(0.4)
    for connection in slow.values():
        connection.close()
    expect(not left, f"still there after {SECONDS_TO_DROP_SLOW} s", left)


@check("a neighbour's answer is the same whatever happens beside it")
def _():
    calm = "".join(texts_of(slow_answer()))
    texts = texts_of(slow_answer())
    said = next(texts)
    for body in (b"{", b"[" * 50_000, json.dumps(with_schema({"type": "string", "pattern": "["})).encode()):
        ask(suite.url, "POST", "/v1/chat/completions", body)
    for more in ({"logit_bias": {"99999999": 1}}, {"logit_bias": {"97": 100}, "n": 3}, {"temperature": 2.0, "top_p": 0.0001}):
        ask(suite.url, "POST", "/v1/chat/completions", body_of("/v1/chat/completions", **more))
    connection, _ = open_stream(suite.url, "/v1/completions", body_of("/v1/completions", stream=True, **LONG))
    connection.close()
    equal(said + "".join(texts), calm)


def slow_answer():
    return stream_lines(suite.url, "/v1/completions", body_of("/v1/completions", max_tokens=200, temperature=0, stream=True))


def texts_of(lines):
    """The texts in the events of a streamed completion."""
    for line in lines:
        if line.startswith(b"data: {"):
            yield from (choice["text"] for choice in json.loads(line[6:])["choices"])


suite.main()
