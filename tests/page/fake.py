"""Conversations, models and pulls that are made up, behind the routes of the server."""

import json
import re
import threading
import time
import unicodedata
from urllib.parse import parse_qs, unquote, urlsplit

STORY = "Once upon a time there was a **fox** who lived in a lighthouse.\n\nEvery evening it lit the lamp, and the ships came home."

MODELS = [
    {
        "name": "qwen3-8b",
        "bytes": 5027783488,
        "parameters": 8190000000,
        "quantization": "Q4_K_M",
        "context": 40960,
        "loaded": True,
        "chat": True,
        "fit": {"verdict": "fits", "memory_bytes": 6549825126, "why": "it is in memory"},
    },
    {
        "name": "llama3.3-70b",
        "bytes": 42520395776,
        "parameters": 70600000000,
        "quantization": "Q4_K_M",
        "context": 131072,
        "loaded": False,
        "chat": True,
        "fit": {"verdict": "does not fit", "memory_bytes": 44520395776, "why": "it needs 41.5 GiB, and there are 28.5"},
    },
]
STORIES = {
    "name": "stories",
    "bytes": 2949120,
    "parameters": 656000,
    "quantization": "Q8_0",
    "context": 512,
    "loaded": False,
    "chat": True,
    "fit": {"verdict": "fits", "memory_bytes": 12000000, "why": "it is small"},
}


def node(tag, *children, **fields):
    return {"t": tag, "c": list(children), **fields}


def rendered(text):
    """Blocks of a text, with as much of Markdown as the checks need."""
    blocks = []
    for part in text.split("\n\n"):
        spans = re.split(r"\*\*(.+?)\*\*", part)
        blocks.append(node("p", *[node("strong", it) if i % 2 else it for i, it in enumerate(spans) if it]))
    return blocks


def events_of(text):
    """An answer's events as its words come."""
    shown = []
    for end in [match.end() for match in re.finditer(r"\S+\s*", text)]:
        blocks = rendered(text[:end].rstrip("\n"))
        if len(blocks) == len(shown) and shown and blocks[-1]["c"][:-1] == shown[-1]["c"][:-1]:
            new, old = blocks[-1]["c"][-1], shown[-1]["c"][-1]
            if isinstance(new, str) and isinstance(old, str) and new.startswith(old):
                yield "text", {"text": new[len(old) :]}
                shown = blocks
                continue
        same = next((i for i, (a, b) in enumerate(zip(blocks, shown)) if a != b), min(len(blocks), len(shown)))
        yield "blocks", {"from": same, "blocks": blocks[same:]}
        shown = blocks


def folded(text):
    return "".join(it for it in unicodedata.normalize("NFD", text) if not unicodedata.combining(it)).lower()


class Fake:
    """The state. What it answers can be changed while it plays."""

    def __init__(self):
        self.models = list(MODELS)
        self.chats = {}
        self.numbers = 0
        self.text = STORY
        # Seconds between an answer's events, and these themselves where a text does not make them.
        self.pace_s = 0.01
        self.script = None
        self.refuses = None
        self.asked = []
        self.pulls = {}
        self.pull_s = 1.5
        self.pull_error = None
        self.look_error = None

    def number(self):
        self.numbers += 1
        return f"{self.numbers:08x}"

    def chat(self, title, ago_s=0.0, messages=(), model="qwen3-8b"):
        """A conversation that is there already: of (role, content) or (role, content, blocks)."""
        now = int((time.time() - ago_s) * 1000)
        it = {"id": self.number(), "title": title, "model": model, "params": {}, "created": now, "updated": now}
        it |= {"leaf": None, "messages": []}
        self.chats[it["id"]] = it
        for role, content, *blocks in messages:
            self.add(it, it["leaf"], role, content, *blocks, updated=now)
        return it

    def add(self, chat, parent, role, content, blocks=None, updated=None):
        now = updated or int(time.time() * 1000)
        message = {"id": self.number(), "parent": parent, "role": role, "content": content, "created": now}
        message["blocks"] = rendered(content) if blocks is None else blocks
        if role == "assistant":
            message |= {"model": chat["model"] or "qwen3-8b", "finish": "stop"}
        chat["messages"].append(message)
        chat |= {"leaf": message["id"], "updated": now}
        return message

    def found(self, query):
        for chat in sorted(self.chats.values(), key=lambda it: (-it["updated"], it["id"])):
            summary = {name: chat[name] for name in ["id", "title", "model", "created", "updated"]} | {"snippet": None}
            hit = next((it for it in chat["messages"] if folded(query) in folded(it["content"])), None)
            if query and hit:
                at = folded(hit["content"]).index(folded(query))
                text = hit["content"]
                parts = [(text[max(0, at - 20) : at], False), (text[at : at + len(query)], True)]
                parts.append((text[at + len(query) : at + 60], False))
                summary["snippet"] = [{"text": text, "hit": is_hit} for text, is_hit in parts]
            if not query or hit or folded(query) in folded(chat["title"]):
                yield summary


def without_blocks(message, **fields):
    return {name: value for name, value in message.items() if name != "blocks"} | fields


class Routes:
    """Mixed into the stage's handler."""

    def routed(self, method):
        """Answers, or tells that there is no such route."""
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        path = [unquote(it) for it in url.path.removeprefix("/api/troika/").split("/")]
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        route = getattr(self, f"{method}_{path[0]}", None)
        if route is None or path[0] not in ("chats", "picker", "pulls"):
            return False
        try:
            route(path[1:], query, body)
        except KeyError:
            self.json({"error": {"message": "there is no such thing", "kind": "not_found"}}, 404)
        return True

    def get_picker(self, _, __, ___):
        models = self.server.fake.models
        self.json({"models": models, "default": models[0]["name"] if models else None})

    def get_chats(self, path, query, _):
        fake = self.server.fake
        if path == ["export"]:
            return self.send(200, "application/jsonl", "".join(json.dumps(it) + "\n" for it in fake.chats.values()))
        if not path:
            found = list(fake.found(query.get("query", "")))
            begin = int(query.get("before") or 0)
            end = begin + int(query["limit"])
            return self.json({"chats": found[begin:end], "next": str(end) if end < len(found) else None})
        chat = fake.chats[path[0]]
        if path[1:] != ["export"]:
            return self.json(chat)
        if query["format"] == "json":
            return self.json(chat)
        return self.send(200, "text/markdown", f"# {chat['title']}\n")

    def post_chats(self, path, _, body):
        fake = self.server.fake
        if path:
            return self.answer(fake.chats[path[0]], body)
        chat = fake.chat("", model=body.get("model")) | {"params": body.get("params") or {}}
        fake.chats[chat["id"]] = chat
        return self.json(chat, 201)

    def patch_chats(self, path, _, body):
        chat = self.server.fake.chats[path[0]]
        chat |= body
        self.json(without_blocks(chat, messages=[]))

    def delete_chats(self, path, _, body):
        if path:
            del self.server.fake.chats[path[0]]
        else:
            assert body == {"all": True}
            self.server.fake.chats.clear()
        self.send(204, "text/plain", "")

    def begin_events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def event(self, name, data):
        self.wfile.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()

    def answer(self, chat, body):
        fake = self.server.fake
        fake.asked.append(body)
        if fake.refuses:
            return self.json({"error": {"message": fake.refuses, "kind": "overloaded"}}, 429)
        self.begin_events()
        parent = body["parent"]
        if "content" in body:
            question = fake.add(chat, parent, "user", body["content"])
            chat["title"] = chat["title"] or body["content"][:40]
            self.event("message", question)
            parent = question["id"]
        answer = fake.add(chat, parent, "assistant", "", [])
        answer["model"] = body.get("model") or chat["model"] or "qwen3-8b"
        begun, tokens = time.monotonic(), 0
        try:
            self.event("message", without_blocks(answer, finish=None))
            for name, data in fake.script or events_of(fake.text):
                if name == "pause":
                    time.sleep(data)
                    continue
                time.sleep(fake.pace_s)
                if name == "blocks":
                    answer["blocks"][data["from"] :] = data["blocks"]
                tokens += 1
                self.event(name, data)
            took = max(1e-3, time.monotonic() - begun)
            answer |= {"content": fake.text, "blocks": rendered(fake.text), "ttft_s": 0.23, "tokens_per_second": tokens / took}
            answer["usage"] = {"prompt_tokens": 12, "completion_tokens": tokens}
            self.event("done", without_blocks(answer))
        except (BrokenPipeError, ConnectionResetError):
            answer |= {"finish": "stopped", "content": "What was kept of it."}
        return None

    def get_pulls(self, path, query, _):
        fake = self.server.fake
        if not path:
            return self.json({"pulls": list(fake.pulls.values())})
        if path == ["look"]:
            if fake.look_error:
                return self.json({"error": {"message": fake.look_error, "kind": "forbidden"}}, 403)
            return self.json(looked(query["from"]))
        pull = fake.pulls[path[0]]
        self.begin_events()
        while True:
            self.event("pull", pull)
            if pull["state"] in ("done", "failed", "stopped"):
                return None
            time.sleep(0.1)

    def post_pulls(self, _, __, body):
        fake = self.server.fake
        name = body["from"].split("/")[-1].split(":")[0].lower()
        pull = {"id": fake.number(), "from": body["from"], "name": None, "state": "looking", "bytes": 639446688}
        pull |= {"done_bytes": 0, "bytes_per_second": 0, "error": None, "model": None}
        fake.pulls[pull["id"]] = pull
        threading.Thread(target=self.come, args=(fake, pull, name), daemon=True).start()
        self.json(pull, 202)

    @staticmethod
    def come(fake, pull, name):
        """A pull from its beginning to its end."""
        for step in range(21):
            if pull["state"] == "stopped":
                return
            pull |= {"state": "downloading", "name": name, "done_bytes": pull["bytes"] * step // 20, "bytes_per_second": 55050240}
            if fake.pull_error and step == 8:
                pull |= {"state": "failed", "error": fake.pull_error}
                return
            time.sleep(fake.pull_s / 20)
        fake.models.append(MODELS[0] | {"name": pull["name"]})
        pull |= {"state": "done", "model": pull["name"]}

    def delete_pulls(self, path, _, __):
        self.server.fake.pulls[path[0]]["state"] = "stopped"
        self.send(204, "text/plain", "")


def looked(ref):
    chosen = ref.split(":")[2] if ref.count(":") > 1 else "Q8_0"
    sizes = {"Q8_0": 639446688, "Q4_K_M": 396705472}
    size = sizes.get(chosen, sizes["Q8_0"])
    name = ref.split("/")[-1].split(":")[0]
    choices = [{"name": kind, "bytes": it, "quantization": kind} for kind, it in sizes.items()]
    fit = {"verdict": "fits", "memory_bytes": 1181116006, "tokens_per_second": 61.0, "device": "gpu0", "why": "it leaves 17 GiB"}
    return {
        "from": ref,
        "name": name,
        "source": "huggingface.co/" + ref.split(":")[1],
        "files": [{"name": chosen, "bytes": size}],
        "bytes": size,
        "have_bytes": 0,
        "licence": "apache-2.0",
        "quantization": chosen,
        "choices": choices,
        "fit": fit,
        "disk_free_bytes": 250 << 30,
    }
