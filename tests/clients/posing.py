"""A server that poses as a machine with a CPU, a GPU and an NPU: where jobs go, and that they go where they are told to.

Which of the three is best is for the scheduler's own tests and for simulations. Here it is seen that each can be had, that
all of them give the same answer, and that what a policy or a class asks for shows. Standard library only.
"""

import threading

from harness import Suite, check_troika, each, equal, expect
from http_client import ask

suite = Suite("posing")
check = suite.check

DEVICES = ("cpu0", "gpu0", "npu0")


def complete(headers=None, prompt="Hello", max_tokens=12, **more):
    """An answer, its numbers, and the header that tells where it was made."""
    body = {"model": suite.model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, **more}
    answer = ask(suite.url, "POST", "/v1/completions", body, headers)
    expect(answer.status == 200, answer.status, answer.body[:400])
    whole = answer.json()
    return whole["choices"][0]["text"], whole["usage"]["troika"], answer.headers["x-troika-placement"]


def get(path):
    answer = ask(suite.url, "GET", path)
    expect(answer.status == 200, path, answer.status, answer.body[:400])
    return answer.json()


def set_policy(name):
    answer = ask(suite.url, "PUT", "/api/troika/policy", {"policy": name})
    equal(answer.status, 200, answer.body[:300])


@check("the machine has its three devices in one memory")
def _():
    state = get("/api/troika/state")
    equal(tuple(device["name"] for device in state["devices"]), DEVICES)
    equal([device["kind"] for device in state["devices"]], ["cpu", "gpu", "npu"])
    equal(len(state["pools"]), 1)


@check("a device that is asked for is the one that does it, and all give the same answer")
def _():
    texts = set()

    def asked_for(name):
        text, troika, header = complete({"X-Troika-Device": name})
        texts.add(text)
        check_troika(troika, header)
        equal({span["device"] for span in troika["placement"]}, {name})

    each([(name,) for name in DEVICES], asked_for)
    equal(len(texts), 1)


@check("a device that there is not is refused with those that there are")
def _():
    body = {"model": suite.model, "prompt": "Hello", "max_tokens": 4}
    answer = ask(suite.url, "POST", "/v1/completions", body, {"X-Troika-Device": "gpu7"})
    equal(answer.status, 400)
    expect("gpu7" in answer.message and all(name in answer.message for name in DEVICES), answer.message)


@check("the reasons name every candidate, and why the others lost")
def _():
    complete({"X-Request-Id": "why-not-the-others", "X-Troika-Device": "npu0"})
    (placement,) = get("/api/troika/placements/why-not-the-others")
    (decision, *_) = placement["decisions"]
    verdicts = {placement["devices"][it["decode"]]: it["lost"] for it in decision["candidates"] if it["prefill"] == it["decode"]}
    equal(set(verdicts), set(DEVICES))
    equal(verdicts.pop("npu0"), None)
    equal({lost["why"] for lost in verdicts.values()}, {"not_required"})


@check("the policy decides where a job goes")
def _():
    try:
        for kind, name in (("CPU", "cpu0"), ("GPU", "gpu0"), ("NPU", "npu0")):
            set_policy(f"PREFER_{kind}")
            _, troika, _ = complete()
            equal({span["device"] for span in troika["placement"]}, {name}, kind)
    finally:
        set_policy("balanced")


@check("jobs of all classes run side by side, and the state tells of them")
def _():
    seen, failures = set(), []

    def write(name):
        try:
            text, _, _ = complete({"X-Troika-Class": name}, "Hello " * 40, 120, ignore_eos=True, logit_bias={"97": 100})
            equal(text, "a" * 120)
        except Exception as error:  # told by the check
            failures.append((name, error))

    classes = ["interactive", "agent", "background", "batch"] * 3
    threads = [threading.Thread(target=write, args=(name,)) for name in classes]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        state = get("/api/troika/state")
        seen.update(job["class"] for job in state["jobs"])
        seen.update(queue["class"] for queue in state["queues"] if queue["waiting"])
    for thread in threads:
        thread.join()
    equal(failures, [])
    expect({"background", "batch"} <= seen, seen)


suite.main()
