"""The order in which replicas are asked."""

from __future__ import annotations

from collections import Counter

from troika_ray.ranking import rank

IDLE = {f"r{index}": 0 for index in range(4)}


def test_a_conversation_stays_where_it_is() -> None:
    assert {tuple(rank(IDLE, "c")) for _ in range(20)} == {tuple(rank(dict(reversed(IDLE.items())), "c"))}


def test_conversations_spread() -> None:
    firsts = Counter(rank(IDLE, f"c{index}")[0] for index in range(4000))
    assert all(900 < count < 1100 for count in firsts.values()), firsts


def test_only_those_of_a_lost_replica_move() -> None:
    fewer = {name: 0 for name in IDLE if name != "r2"}
    for index in range(500):
        before = rank(IDLE, f"c{index}")
        assert rank(fewer, f"c{index}") == [name for name in before if name != "r2"]


def test_a_loaded_replica_spills_to_the_next() -> None:
    first, second, *_ = rank(IDLE, "c")
    busy = {**IDLE, first: 4}
    assert rank(busy, "c", spill_floor=4)[0] == second
    assert rank(busy, "c", spill_floor=5)[0] == first
    # All are as busy: it is no gain to go elsewhere.
    assert rank(dict.fromkeys(IDLE, 40), "c")[0] == first


def test_without_affinity_the_idlest_is_best() -> None:
    assert rank({"a": 3, "b": 1, "c": 2}, "") == ["b", "c", "a"]


def test_those_to_avoid_are_last_but_there() -> None:
    order = rank(IDLE, "c")
    assert rank(IDLE, "c", avoid=order[:2]) == order[2:] + order[:2]
    assert rank({"a": 0}, "c", avoid=["a"]) == ["a"]
    assert rank({}, "c") == []
