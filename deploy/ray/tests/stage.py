"""A cluster of two nodes on this machine, on which an application is put up.

Devices are simulated: the servers pose as a processor whose memory gives 1 GB/s, so an answer takes as long as it would
take there and next to none of this machine's time. Two of them can thus be twice as fast as one on any machine.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.cluster_utils import Cluster

from troika_ray.app import build
from troika_ray.settings import Settings

PACKAGE = Path(__file__).resolve().parent.parent
# The story model that is inside the program: 7 MB, so 7 ms for a step at 1 GB/s, and as much again for the rest.
MODEL = "stories"
MACHINE = "Slow processor"
STREAMS = 4
_NODE = {"num_gpus": 0, "object_store_memory": 80 << 20}
# Room for two replicas on the head node and for one on the worker: two stand apart, and when the worker is gone, both
# have room on the head.
_HEAD_CPUS, _WORKER_CPUS = 2, 1
# Found dead after three seconds. Ray's own default is some fifteen.
_WATCHFUL = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


def program() -> str | None:
    """The `troika` to test: TROIKA_PROGRAM's, or PATH's."""
    return shutil.which(os.environ.get("TROIKA_PROGRAM", "troika"))


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    all_headers: list[tuple[str, str]]
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.all_headers}

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def replica(self) -> str:
        return self.headers["x-troika-replica"]


class Stage:
    """The cluster, and what is up on it."""

    def __init__(self, home: Path) -> None:
        """Starts the head node and a worker; `home` becomes TROIKA_HOME of all servers."""
        self.home = home
        self._describe_machine()
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={**_NODE, "num_cpus": _HEAD_CPUS, "include_dashboard": False, "_system_config": _WATCHFUL},
        )
        self.worker = self.cluster.add_node(**_NODE, num_cpus=_WORKER_CPUS)
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # Keys that only some tests ask for, and the one that replicas have.
        self.keys_file = home / "asked-for.toml"
        scopes = ("--scope", "admin", "--scope", "inference")
        variables = {"PYTHONPATH": str(PACKAGE), "TROIKA_RAY_KEY": self.make_key("replicas", *scopes)}
        ray.init(address=self.cluster.address, log_to_driver=False, runtime_env={"env_vars": variables})
        serve.start(http_options={"host": "127.0.0.1", "port": self.port, "location": "HeadOnly"})

    def _describe_machine(self) -> None:
        chip = ["--kind", "cpu", "--vendor", "amd", "--family", "zen4", "--memory", "4", "--bandwidth", "1", "--tdp", "50"]
        rates = ["--fp16-tflops", "0.05", "--int8-tops", "0.1"]
        self.troika("catalogue", "add", "--name", MACHINE, *chip, *rates)

    def troika(self, *args: str) -> str:
        """Runs the program; what it says on either way."""
        env = {**os.environ, "TROIKA_HOME": str(self.home), "TROIKA_KEYS_FILE": str(self.home / "asked-for.toml")}
        done = subprocess.run([program() or "troika", *args], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def make_key(self, name: str, *more: str) -> str:
        """A new key of `keys_file`."""
        said = self.troika("keys", "add", name, *more)
        return next(word for word in said.split() if word.startswith("tk-"))

    def put_up(self, wait: bool = True, **settings: Any) -> None:
        """Puts the application up, or changes what is up, and waits until it answers."""
        args: dict[str, Any] = {
            "troika": program(),
            "env": {"TROIKA_HOME": str(self.home)},
            "serve_args": ["--virtual", MACHINE, "--max-streams", str(STREAMS)],
            "allow_unauthenticated_network": True,
            "max_ongoing": 2 * STREAMS,
            "warm": [MODEL],
            "drain_timeout": 5.0,
            "health_period": 1.0,
            **settings,
        }
        serve.run(build(Settings(**args)), name="troika", route_prefix="/")
        if wait:
            self.wait_for(lambda: len(self.replicas()) == args.get("min_replicas", 1), 60)

    def wait_for(self, true: Callable[[], bool], seconds: float) -> float:
        """Waits until it is so; tells how long that took."""
        begun = time.monotonic()
        while not true():
            assert time.monotonic() - begun < seconds, f"not so in {seconds} s"
            time.sleep(0.1)
        return time.monotonic() - begun

    def ask(self, path: str, body: Any = None, method: str | None = None, timeout: float = 60, **headers: str) -> Answer:
        """A request by HTTP. Underscores in names of headers stand for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"content-type": "application/json", **named}, method=method or ("POST" if data else "GET")
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return Answer(answer.status, list(answer.headers.items()), answer.read())
        except urllib.error.HTTPError as answer:
            return Answer(answer.code, list(answer.headers.items()), answer.read())

    def complete(self, prompt: str, tokens: int = 8, **more: Any) -> Answer:
        """A completion, greedy unless something else is said."""
        body = {"model": MODEL, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, **more}
        return self.ask("/v1/completions", body)

    def replicas(self) -> list[dict[str, Any]]:
        """Who is up, as the application tells it."""
        answer = self.ask("/api/troika/replicas", timeout=15)
        return answer.json()["replicas"] if answer.status == 200 else []

    def metric(self, name: str) -> float:
        """The sum of a metric over replicas and models."""
        lines = self.ask("/metrics").body.decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{"))

    def kill_worker(self) -> None:
        """The worker node is gone from one moment to the next: its raylet, on which all that runs there hangs."""
        for processes in self.worker.all_processes.values():
            for info in processes:
                with suppress(ProcessLookupError):
                    os.kill(info.process.pid, signal.SIGKILL)

    def take_down(self) -> None:
        """Ends everything that was started here."""
        try:
            serve.shutdown()
        finally:
            ray.shutdown()
            self.cluster.shutdown()


@contextmanager
def stage(home: Path) -> Iterator[Stage]:
    """A stage that is taken down, whatever happens."""
    it = Stage(home)
    try:
        yield it
    finally:
        it.take_down()


def _free_port() -> int:
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return int(it.getsockname()[1])
