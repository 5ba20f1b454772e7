"""One address that behaves like one server: every interface, streams as they are written, clients that leave."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import os
import signal
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from crowd import Crowd
from stage import MODEL, STREAMS

if TYPE_CHECKING:
    from stage import Stage

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def two_replicas(stage: Stage) -> None:
    stage.put_up(min_replicas=2, max_replicas=2)


def stream(stage: Stage, path: str, body: dict[str, Any]) -> list[tuple[float, bytes]]:
    """A stream's pieces as they come, with the seconds since the request."""
    connection = http.client.HTTPConnection("127.0.0.1", stage.port, timeout=30)
    begun = time.monotonic()
    connection.request("POST", path, json.dumps({"model": MODEL, "stream": True, **body}), {"content-type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    pieces = []
    while piece := answer.read1(1 << 16):
        pieces.append((time.monotonic() - begun, piece))
    connection.close()
    return pieces


def text(pieces: list[tuple[float, bytes]]) -> str:
    return b"".join(piece for _, piece in pieces).decode()


SAID = [{"role": "user", "content": "Once upon a time"}]
STREAMED = [
    ("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 40, "ignore_eos": True}, "data: [DONE]\n\n"),
    ("/v1/chat/completions", {"messages": SAID, "max_tokens": 40, "ignore_eos": True}, "data: [DONE]\n\n"),
    ("/v1/messages", {"messages": SAID, "max_tokens": 40}, 'data: {"type":"message_stop"}\n\n'),
    ("/v1/responses", {"input": "Once upon a time", "max_output_tokens": 40}, "\n\n"),
    ("/api/chat", {"messages": SAID, "options": {"num_predict": 40}}, "}\n"),
    ("/api/generate", {"prompt": "Once upon a time", "options": {"num_predict": 40}}, "}\n"),
]


@pytest.mark.parametrize(("path", "body", "end"), STREAMED, ids=[path for path, _, _ in STREAMED])
def test_streams_come_as_they_are_written(stage: Stage, path: str, body: dict[str, Any], end: str) -> None:
    pieces = stream(stage, path, body)
    assert text(pieces).endswith(end), text(pieces)[-200:]
    # Forty tokens of 14 ms each: what is held back would come at once.
    assert len(pieces) >= 20
    assert pieces[-1][0] - pieces[0][0] > 0.3
    gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(pieces)]
    assert sorted(gaps)[len(gaps) // 2] < 0.05


def test_answers_are_passed_on_unchanged(stage: Stage) -> None:
    answer = stage.complete("Once upon a time", tokens=5)
    assert answer.status == 200
    assert answer.json()["usage"]["completion_tokens"] == 5
    assert answer.headers["x-troika-placement"].startswith("prefill=cpu0")
    assert answer.replica in {replica["replica"] for replica in stage.replicas()}
    named = stage.ask("/v1/models", x_request_id="mine-7")
    assert named.headers["x-request-id"] == "mine-7"
    names = [name for name, _ in named.all_headers]
    assert len(names) == len(set(names)), names
    assert MODEL in [model["id"] for model in named.json()["data"]]


def test_other_routes_and_errors_are_the_servers_own(stage: Stage) -> None:
    assert stage.ask("/").body.startswith(b"Troika")
    assert stage.ask("/health").json() == {"status": "ok"}
    assert stage.ask("/ready").json() == {"status": "ready"}
    assert stage.ask("/api/tags").json()["models"]
    assert stage.ask("/api/troika/state").json()["virtual"]
    assert stage.ask("/v1/models/n%2Fone").status == 404
    assert stage.ask("/v1/chat/completions", method="PUT", body={}).status == 405
    assert stage.ask("/v1/messages", {"model": "none", "max_tokens": 1, "messages": SAID}).json()["type"] == "error"
    assert stage.complete("a", temperature=9).status == 400
    assert stage.ask("/api/blobs/sha256:0", {"a": 1}).status == 501
    big = stage.ask("/v1/completions", {"model": MODEL, "prompt": "x" * (9 << 20)})
    assert (big.status, big.json()["error"]["type"]) == (413, "invalid_request_error")


def test_a_head_request_has_no_body(stage: Stage) -> None:
    answer = stage.ask("/", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")


def test_the_owners_wish_reaches_all(stage: Stage) -> None:
    def policies() -> set[str]:
        return {stage.ask("/api/troika/policy").json()["policy"] for _ in range(12)}

    assert stage.ask("/api/troika/policy", {"policy": "frugal"}, method="PUT").status == 200
    assert policies() == {"frugal"}
    assert stage.ask("/api/troika/policy", {"policy": "none"}, method="PUT").status == 400
    assert stage.ask("/api/troika/policy", {"policy": "balanced"}, method="PUT").status == 200
    assert policies() == {"balanced"}


def test_responses_are_found_wherever_they_are(stage: Stage) -> None:
    made = stage.ask("/v1/responses", {"model": MODEL, "input": "Once", "max_output_tokens": 3}).json()["id"]
    for _ in range(6):
        assert stage.ask(f"/v1/responses/{made}").json()["id"] == made
        more = {"model": MODEL, "input": "And then", "previous_response_id": made, "max_output_tokens": 3}
        assert stage.ask("/v1/responses", more).json()["previous_response_id"] == made
    assert stage.ask("/v1/responses/resp_none").status == 404


def test_a_conversation_stays_and_finds_what_was_read(stage: Stage) -> None:
    homes = Counter()
    for number in range(12):
        begun = f"This is the story of number {number}. " * 10
        first = stage.complete(begun)
        again = stage.complete(begun + "And it goes on.")
        assert first.replica == again.replica
        assert again.json()["usage"]["prompt_tokens_details"]["cached_tokens"] > 20
        homes[first.replica] += 1
    assert len(homes) == 2, "conversations spread"


def test_a_crowd_in_one_conversation_spills(stage: Stage) -> None:
    crowd = Crowd(stage.url, count=8 * STREAMS, at_once=4 * STREAMS, kinds=1)
    asyncio.run(crowd.run())
    homes = Counter(told.replica for told in crowd.told)
    assert {told.status for told in crowd.told} == {200}
    assert len(homes) == 2 and min(homes.values()) > STREAMS, homes


def test_a_client_that_leaves_ends_its_job(stage: Stage) -> None:
    def running() -> float:
        return stage.metric("troika_jobs_running") + stage.metric("troika_jobs_queued")

    stage.wait_for(lambda: running() == 0, 10)
    body = {"model": MODEL, "prompt": "Once", "max_tokens": 450, "ignore_eos": True}
    for streams in (True, False):
        connection = http.client.HTTPConnection("127.0.0.1", stage.port, timeout=30)
        data = json.dumps({**body, "stream": streams})
        connection.request("POST", "/v1/completions", data, {"content-type": "application/json"})
        if streams:
            connection.getresponse().read1(100)
        stage.wait_for(lambda: running() == 1, 5)
        sock = connection.sock
        assert sock is not None
        sock.close()
        connection.close()
        # Left alone, it would run for six seconds.
        assert stage.wait_for(lambda: running() == 0, 4) < 2.0, f"stream: {streams}"


def test_metrics_tell_of_each_replica(stage: Stage) -> None:
    text = stage.ask("/metrics").body.decode()
    names = {replica["replica"] for replica in stage.replicas()}
    assert len(names) == 2 and all(f'replica="{name}"' in text for name in names)
    assert text.count("# TYPE troika_jobs_running gauge") == 1


def kill_program_of(stage: Stage, replica: str) -> None:
    pid = next(it["troika_pid"] for it in stage.replicas() if it["replica"] == replica)
    os.kill(pid, signal.SIGKILL)


def test_a_program_that_dies_is_started_anew(stage: Stage) -> None:
    before = stage.replicas()
    os.kill(before[0]["troika_pid"], signal.SIGKILL)
    stage.wait_for(lambda: any(it["restarts"] for it in stage.replicas()), 10)
    assert {it["replica"] for it in stage.replicas()} == {it["replica"] for it in before}, "the actor stays"
    assert {stage.complete(f"Number {number}").status for number in range(10)} == {200}


def test_what_is_not_idempotent_is_not_repeated(stage: Stage) -> None:
    """The program dies in the middle: without a seed the client is told, with a key it never notices."""
    prompt = "The very same story"
    home = stage.complete(prompt).replica
    plain = {"model": MODEL, "prompt": prompt, "max_tokens": 100, "ignore_eos": True}
    answers: dict[str, Any] = {}

    def send(name: str, **headers: str) -> threading.Thread:
        thread = threading.Thread(target=lambda: answers.update({name: stage.ask("/v1/completions", plain, **headers)}))
        thread.start()
        return thread

    threads = [send("plain"), send("keyed", idempotency_key="k-1")]
    time.sleep(0.6)
    kill_program_of(stage, home)
    for thread in threads:
        thread.join(30)
    assert answers["plain"].status == 502, answers["plain"]
    assert "Idempotency-Key" in answers["plain"].json()["error"]["message"]
    assert answers["keyed"].status == 200
    assert answers["keyed"].json()["usage"]["completion_tokens"] == 100
    assert answers["keyed"].replica != home


def test_a_stream_that_breaks_off_says_so(stage: Stage) -> None:
    stage.wait_for(lambda: {stage.complete(f"N {number}").status for number in range(8)} == {200}, 10)
    prompt = "A stream of words"
    home = stage.complete(prompt).replica
    told: dict[str, str] = {}
    forms = {
        "/v1/completions": {"prompt": prompt, "max_tokens": 200, "ignore_eos": True, "seed": 1},
        "/api/generate": {"prompt": prompt, "options": {"num_predict": 200, "seed": 1}},
    }
    threads = [
        threading.Thread(target=lambda p=path, b=body: told.update({p: text(stream(stage, p, b))}))
        for path, body in forms.items()
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.8)
    kill_program_of(stage, home)
    for thread in threads:
        thread.join(30)
    assert "[DONE]" not in told["/v1/completions"]
    assert json.loads(told["/v1/completions"].strip().rsplit("data: ", 1)[1])["error"]["code"] == "unavailable"


def test_a_replica_that_hangs_is_passed_over(stage: Stage) -> None:
    """One request may wait for it. Others of the same conversation go elsewhere, and come back to it later."""
    stage.wait_for(lambda: {stage.complete(f"N {number}").status for number in range(8)} == {200}, 10)
    home = stage.complete("Stay here").replica
    actor = next(it["actor_pid"] for it in stage.replicas() if it["replica"] == home)
    waits = threading.Thread(target=stage.complete, args=("Stay here",))
    os.kill(actor, signal.SIGSTOP)
    try:
        waits.start()
        time.sleep(1.5)
        begun = time.monotonic()
        others = {stage.complete("Stay here").replica for _ in range(5)}
        assert home not in others and time.monotonic() - begun < 3.0
    finally:
        os.kill(actor, signal.SIGCONT)
    waits.join(30)
    stage.wait_for(lambda: stage.complete("Stay here").replica == home, 10)


def test_a_new_configuration_drains_the_old(stage: Stage) -> None:
    """Replicas go while they are answering, and others come: every answer comes to its end."""
    before = {it["replica"] for it in stage.replicas()}
    crowd = Crowd(stage.url, count=40, at_once=8, tokens=100, kinds=40)

    async def anew() -> None:
        await asyncio.sleep(1.0)
        await asyncio.to_thread(stage.put_up, min_replicas=2, max_replicas=2)

    asyncio.run(crowd.run(anew))
    assert Counter(told.status for told in crowd.told) == {200: 40}, [it for it in crowd.told if it.status != 200][:3]
    assert not before & {it["replica"] for it in stage.replicas()}
    assert {told.replica for told in crowd.told} & before, "the old ones had begun"


def test_when_all_are_full_some_are_told_to_come_again(stage: Stage) -> None:
    stage.put_up(max_ongoing=2, max_queued=3)
    crowd = Crowd(stage.url, count=24, at_once=12, tokens=30)
    asyncio.run(crowd.run())
    assert set(Counter(told.status for told in crowd.told)) == {200, 429}, {
        told.text for told in crowd.told if told.status != 200
    }
    assert '"code":"overloaded"' in next(told.text for told in crowd.told if told.status == 429)


def test_fronts_may_stand_on_several_nodes(stage: Stage) -> None:
    stage.put_up(entry="nodes", fronts=2)
    assert {stage.complete(f"Number {number}").status for number in range(8)} == {200}


def test_keys_are_asked_for(stage: Stage) -> None:
    one, root = stage.make_key("one"), stage.make_key("root", "--scope", "admin")
    # To load the model, the replica needs its own.
    stage.put_up(keys_file=str(stage.keys_file), allow_unauthenticated_network=False, wait=False)
    assert stage.ask("/health").status == 200
    stage.wait_for(lambda: stage.ask("/v1/models").status == 401, 30)
    assert stage.ask("/v1/models", authorization=f"Bearer {one}").status == 200
    assert stage.ask("/metrics").status == 401
    assert stage.ask("/api/troika/replicas", x_api_key=one).status == 403
    assert len(stage.ask("/api/troika/replicas", x_api_key=root).json()["replicas"]) == 1
    metrics = stage.ask("/metrics", x_api_key=root).body.decode()
    assert f'model="{MODEL}"' in metrics, "the model was loaded with the replica's key"
