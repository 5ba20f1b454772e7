"""What is promised when things die: nothing idempotent is lost or doubled, and the rest go on within ten seconds."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import ray
from crowd import Crowd

if TYPE_CHECKING:
    from stage import Stage

pytestmark = pytest.mark.cluster

COUNT = int(os.environ.get("TROIKA_RAY_REQUESTS", "2000"))
RECOVERY_S = 10.0


@pytest.mark.timeout(280)
def test_a_replica_and_then_a_node_are_killed(stage: Stage) -> None:
    stage.put_up(min_replicas=2, max_replicas=2)
    worker = next(node["NodeID"] for node in ray.nodes() if not _is_head(node))
    assert {replica["node"] == worker for replica in stage.replicas()} == {True, False}, "one replica on each node"
    crowd = Crowd(stage.url, COUNT, at_once=16)
    killed: dict[str, float] = {}
    programs: list[int] = []

    async def kill() -> None:
        await _until(lambda: len(crowd.told) >= COUNT // 5)
        victim = next(it for it in stage.replicas() if it["node"] != worker)
        killed["replica"] = time.monotonic()
        os.kill(victim["actor_pid"], signal.SIGKILL)
        programs.append(victim["troika_pid"])
        await _until(lambda: len(crowd.told) >= COUNT * 3 // 5)
        assert sorted(it["node"] == worker for it in stage.replicas()) == [False, True], "as before"
        killed["node"] = time.monotonic()
        programs.extend(it["troika_pid"] for it in stage.replicas() if it["node"] == worker)
        stage.kill_worker()

    took_s = asyncio.run(crowd.run(kill))

    statuses = Counter(told.status for told in crowd.told)
    assert statuses == {200: COUNT}, [told for told in crowd.told if told.status != 200][:5]
    assert sorted(told.number for told in crowd.told) == list(range(COUNT)), "each is answered, and once"
    answers = defaultdict(set)
    for told in crowd.told:
        answers[told.number % crowd.kinds].add(told.text)
    assert all(len(texts) == 1 for texts in answers.values()), "no answer is another's, or two in one"
    assert len({text for texts in answers.values() for text in texts}) == crowd.kinds

    assert len(programs) == 2 and not any(map(_runs, programs)), "they go with their actors"

    before = crowd.rate(killed["replica"] - 4, killed["replica"])
    ends = {"replica": killed["node"], "node": max(told.at_s for told in crowd.told) - 1}
    found = {what: crowd.recovered_after(moment, ends[what], 0.9 * before) for what, moment in killed.items()}
    slowest = max(told.took_s for told in crowd.told)
    print(f"\n{COUNT} requests in {took_s:.1f} s, {before:.1f} a second before; back after {found}; slowest {slowest:.1f} s")
    seconds = range(int(killed["replica"]) - 4, int(max(told.at_s for told in crowd.told)))
    print(f"answers in each second: {[round(crowd.rate(at, at + 1)) for at in seconds]}")
    print(f"the replica was killed in the fifth, the node {killed['node'] - killed['replica']:.1f} s later")
    for what, after_s in found.items():
        assert after_s is not None and after_s <= RECOVERY_S, f"{what}: {after_s}"


def _is_head(node: dict) -> bool:
    return "node:__internal_head__" in node["Resources"]


def _runs(pid: int) -> bool:
    """Whether a process does more than wait for somebody to take note of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def _until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - what is waited for is told by no event
        await asyncio.sleep(0.02)
