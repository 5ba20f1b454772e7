"""The server under test, with a home of its own, keys, and an owner's file that lets everything go that is not private."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clients"))
from http_client import ask, free_port  # noqa: E402

SECONDS_TO_START = 60
ACTIONS = ("remote", "compete", "fallback", "cascade")
CONFIDENTIAL = "STRICTLY CONFIDENTIAL"

HYBRID = """\
[hybrid]
private_keys = ["vault"]
private_models = ["diary*"]
private_content = ['(?i)strictly\\s+confidential']

[[remote]]
name = "far"
url = "{url}"
api = "openai"
key = "env:FAR_KEY"
models = {{ "tiny-chat" = "big", "broken" = "big", "diary" = "big", "cloud" = "big" }}
price = {{ input = 1.0, output = 2.0 }}
limits = {{ timeout_s = 5 }}
allow_plain_http = true
"""

RULE = """
[[rule]]
name = "may {action}"
when = {{ header = {{ "x-may" = "{action}" }} }}
action = "{action}"
"""


def hybrid(url, extra=""):
    """The owner's file. A request says by a header of the test's own which of the rules it is for; without it, none is."""
    return HYBRID.format(url=url) + "".join(RULE.format(action=action) for action in ACTIONS) + extra


class Served:
    """`troika serve`, which can be killed, ended and started again."""

    def __init__(self, troika, model, home, url):
        self.troika, self.home, self.far_url = troika, Path(home), url
        self.log = self.home / "server.log"
        self.process = None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        models = self.home / "models"
        models.mkdir(parents=True)
        for name in ("tiny-chat", "diary"):
            shutil.copyfile(model, models / f"{name}.gguf")
        # Its head is whole, and its weights are not there.
        whole = Path(model).read_bytes()
        (models / "broken.gguf").write_bytes(whole[: len(whole) // 2])
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("TROIKA_")}
        self.env |= {"TROIKA_HOME": str(self.home), "FAR_KEY": "sk-of-the-far-side", "TROIKA_GPU": "off"}
        self.write_hybrid(hybrid(url))
        self.keys = {name: self.make_key(name) for name in ("vault", "desk")}

    def make_key(self, name):
        command = [str(self.troika), "keys", "add", name]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60, check=True)
        words = done.stdout.split() + done.stderr.split()
        return next(word for word in words if word.startswith("tk-"))

    def write_hybrid(self, text):
        """Replaces the owner's file at once, as an editor does."""
        path = self.home / "hybrid.toml"
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(path)

    def start(self, flags=(), env=None, wrap=()):
        command = [*wrap, str(self.troika), "serve", "--port", str(self.port), *flags]
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(
                command, env={**self.env, **(env or {})}, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        self.wait_until_ready()

    def wait_until_ready(self):
        deadline = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with status {self.process.returncode}:\n{self.tail()}")
            try:
                if ask(self.url, "GET", "/ready", timeout=2).status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"the server was not ready in {SECONDS_TO_START} s:\n{self.tail()}")

    def stop(self):
        """Ends it as an operator does."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process = None

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def tail(self):
        return self.log.read_text(errors="replace")[-2000:]
