"""Two replicas are nearly twice as fast as one, and there come to be two when one is not enough."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest
from crowd import Crowd
from stage import STREAMS

if TYPE_CHECKING:
    from stage import Stage

pytestmark = pytest.mark.cluster

COUNT = int(os.environ.get("TROIKA_RAY_SPEED_REQUESTS", "480"))


def test_two_replicas_against_one(stage: Stage) -> None:
    def rate(replicas: int) -> float:
        stage.put_up(min_replicas=replicas, max_replicas=replicas)
        # As many clients for each replica as it has streams, and as many again that wait.
        crowd = Crowd(stage.url, count=COUNT * replicas // 2, at_once=2 * STREAMS * replicas, tokens=16)
        asyncio.run(Crowd(stage.url, count=20 * replicas, at_once=4).run())
        took_s = asyncio.run(crowd.run())
        assert {told.status for told in crowd.told} == {200}
        return crowd.count / took_s

    one, two = rate(1), rate(2)
    print(f"\none replica: {one:.1f} answers a second, two: {two:.1f}, {two / one:.2f} times as many")
    assert two >= 1.8 * one


QUICK = {"min_replicas": 1, "max_replicas": 2, "look_back": 11.0, "upscale_delay": 1.0, "downscale_delay": 2.0}


def until_two(stage: Stage, **settings: float) -> None:
    """Twelve clients, who are more than one replica has streams for, until there are two."""
    stage.put_up(**QUICK, **settings)
    stage.wait_for(lambda: len(stage.replicas()) == 1, 60)
    seen = []

    async def watch() -> None:
        for _ in range(100):
            seen.append(len(await asyncio.to_thread(stage.replicas)))
            if seen[-1] == 2:
                return
            await asyncio.sleep(0.5)

    crowd = Crowd(stage.url, count=1000, at_once=12)
    asyncio.run(crowd.run(watch))
    assert seen[-1] == 2
    assert {told.status for told in crowd.told} == {200}


@pytest.mark.timeout(200)
def test_a_queue_brings_a_second_replica_and_less_of_it_drains_one(stage: Stage) -> None:
    until_two(stage, target_ongoing=6.0, target_ttft=60.0)
    # Three long answers at a time are work for one replica. The other goes in the middle of one, and finishes it.
    few = Crowd(stage.url, count=45, at_once=3, tokens=200)
    asyncio.run(few.run())
    assert {told.status for told in few.told} == {200}
    assert len({told.replica for told in few.told}) == 2
    assert stage.wait_for(lambda: len(stage.replicas()) == 1, 30) < 30


@pytest.mark.timeout(200)
def test_late_first_tokens_bring_a_second_replica(stage: Stage) -> None:
    until_two(stage, target_ongoing=1000.0, target_ttft=0.05)


@pytest.mark.timeout(100)
def test_neither_queue_nor_first_tokens_bring_none(stage: Stage) -> None:
    stage.put_up(**QUICK, target_ongoing=1000.0, target_ttft=60.0)
    stage.wait_for(lambda: len(stage.replicas()) == 1, 60)
    crowd = Crowd(stage.url, count=750, at_once=12)
    asyncio.run(crowd.run())
    assert {told.status for told in crowd.told} == {200}
    assert len({told.replica for told in crowd.told}) == 1
