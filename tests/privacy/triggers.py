"""Everything that makes a program look for another way, one after the other, while private requests are under way.

Each trigger is a function of the stage: it prepares the server and the far side, sends its share of requests, and says
which answers are right. What is never right is in `run`: a canary that left.
"""

import concurrent.futures
import contextlib
import ctypes.util
import glob
import signal
import threading
import time
from dataclasses import dataclass, field

import prompts
from http_client import ask
from served import hybrid

WORKERS = 16
# Why a connection may break off: the server was killed on purpose.
BROKEN = "broken off"


@dataclass
class Stage:
    """What a trigger plays on."""

    served: object
    far: object
    n: int
    answers: list = field(default_factory=list)

    def send(self, one):
        try:
            answer = ask(self.served.url, "POST", one.path, one.body, one.headers, timeout=90)
        except OSError:
            self.answers.append((one, BROKEN, ""))
            return
        self.answers.append((one, answer.status, said(answer)))

    def send_all(self, asks):
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(self.send, asks))


def said(answer):
    """The words of an error, wherever they stand."""
    return "" if answer.status == 200 else answer.body.decode(errors="replace")


@dataclass
class Trigger:
    """A trigger's name, what plays it, and the statuses that are right."""

    name: str
    play: object
    right: set
    # What keeps it from being played here.
    lacks: object = lambda: None


@contextlib.contextmanager
def running(stage, *flags, env=None):
    stage.served.start(flags, env)
    try:
        yield
    finally:
        stage.served.stop()


def nothing_wrong(stage):
    with running(stage):
        stage.send_all(prompts.private(stage.served, stage.n))


def local_error(stage):
    with running(stage):
        stage.send_all(prompts.private(stage.served, stage.n, model="broken"))


def out_of_memory(stage):
    with running(stage, "--memory-budget", "100KB"):
        stage.send_all(prompts.private(stage.served, stage.n))


def context_overflow(stage):
    with running(stage, "--ctx", "16"):
        stage.send_all(prompts.private(stage.served, stage.n))


def full_queue(stage):
    with running(stage, "--max-streams", "1", "--queue-length", "1"):
        stage.send_all(prompts.private(stage.served, stage.n))


def time_out(stage):
    with running(stage):
        stage.send_all(prompts.private(stage.served, stage.n, headers={"X-Troika-Deadline-Ms": "0.01"}))


def missing_model(stage):
    with running(stage):
        stage.send_all(prompts.private(stage.served, stage.n, model="cloud"))


def tool_calls(stage):
    with running(stage):
        stage.send_all(prompts.private(stage.served, stage.n, tools=True))


def retries(stage):
    """The same requests again and again, as clients' libraries do."""
    with running(stage, "--queue-length", "4"):
        for again in range(3):
            headers = {"X-Stainless-Retry-Count": str(again), "Idempotency-Key": "one"}
            stage.send_all(prompts.private(stage.served, -(-stage.n // 3), headers=headers))


def harm(stage, how):
    """Private requests while somebody does `how` to the server, again and again."""
    done = threading.Event()

    def again():
        while not done.wait(1.0):
            how()

    thread = threading.Thread(target=again)
    stage.served.start()
    thread.start()
    try:
        # Answers long enough to be broken off.
        for _ in range(8):
            stage.send_all(prompts.private(stage.served, -(-stage.n // 8), more={"max_tokens": 64}))
    finally:
        done.set()
        thread.join()
        stage.served.stop()


def crash(stage):
    def kill():
        stage.served.kill()
        stage.served.start()

    harm(stage, kill)


def restart(stage):
    def again():
        stage.served.process.send_signal(signal.SIGTERM)
        stage.served.process.wait(60)
        stage.served.start()

    harm(stage, again)


def faketime():
    """The library that makes a program see another time, if it is there."""
    found = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1") + glob.glob("/usr/lib/faketime/libfaketimeMT.so.1")
    return found[0] if found else ctypes.util.find_library("faketimeMT")


def clock_jump(stage):
    """The clock goes forth a day and back two, while requests are under way."""
    times = stage.served.home / "time"
    times.write_text("+0")
    env = {"LD_PRELOAD": faketime(), "FAKETIME_TIMESTAMP_FILE": str(times), "FAKETIME_NO_CACHE": "1"}
    env |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    with running(stage, env=env):
        for offset in ("+1d", "-1d", "+400d", "+0", "-1d", "+90d", "+0", "+1d"):
            times.write_text(offset)
            stage.send_all(prompts.private(stage.served, -(-stage.n // 8)))


def reload(stage):
    """The owner's file changes all the time: rules for more, broken, gone, and back."""
    done = threading.Event()
    wider = '\n[[rule]]\nname = "all may"\naction = "remote"\n'

    def change():
        texts = [hybrid(stage.far.url, wider), "[[remote]\nbroken", hybrid(stage.far.url), hybrid(stage.far.url, wider)]
        while not done.is_set():
            for text in texts:
                stage.served.write_hybrid(text)
                time.sleep(0.05)

    thread = threading.Thread(target=change)
    with running(stage):
        thread.start()
        try:
            # Without a rule of its own a request is not private when the owner says that all may go.
            more = -(-stage.n * len(prompts.MARKS) // (len(prompts.MARKS) - 1))
            asks = (one for one in prompts.private(stage.served, more) if one.mark != "no rule")
            stage.send_all(asks)
        finally:
            done.set()
            thread.join()
            stage.served.write_hybrid(hybrid(stage.far.url))


def far_side(mode):
    """The far side misbehaves, with public requests beside the private ones."""

    def play(stage):
        with running(stage):
            stage.far.mode = mode
            if mode == "down":
                stage.far.down()
            try:
                mixed = []
                for at, one in enumerate(prompts.private(stage.served, stage.n)):
                    mixed.append(one)
                    if at % 40 == 0:
                        mixed.append(prompts.public(stage.served, "remote"))
                stage.send_all(mixed)
            finally:
                if mode == "down":
                    stage.far.up()
                stage.far.mode = "well"

    return play


def no_faketime():
    return None if faketime() else "libfaketime is not installed"


# 501: embeddings of a model that gives none are refused by name, whatever else is wrong.
TRIGGERS = [
    Trigger("nothing wrong", nothing_wrong, {200}),
    Trigger("local error", local_error, {400, 404, 409, 500, 503}),
    Trigger("crash", crash, {200, 503, BROKEN}),
    Trigger("out of memory", out_of_memory, {409, 503}),
    Trigger("context overflow", context_overflow, {400}),
    Trigger("full queue", full_queue, {200, 429}),
    Trigger("time-out", time_out, {412}),
    Trigger("missing model", missing_model, {404}),
    Trigger("tool calls", tool_calls, {200}),
    Trigger("retries", retries, {200, 429}),
    Trigger("restart in mid-request", restart, {200, 503, BROKEN}),
    Trigger("clock jump", clock_jump, {200}, lacks=no_faketime),
    Trigger("configuration reload", reload, {200}),
    Trigger("remote redirect", far_side("redirect"), {200}),
    Trigger("remote down", far_side("down"), {200}),
    Trigger("remote fails", far_side("error"), {200}),
]

