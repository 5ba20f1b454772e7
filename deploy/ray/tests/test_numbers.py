"""What is read from metrics, and how many replicas that asks for."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from troika_ray.numbers import Reading, Window, quantile
from troika_ray.prometheus import merge
from troika_ray.scaling import QueueAndTtft

TEXT = """# HELP troika_jobs_running Jobs in progress.
# TYPE troika_jobs_running gauge
troika_jobs_running{model="a"} 2
troika_jobs_running{model="b"} 1

# TYPE troika_jobs_queued gauge
troika_jobs_queued{model="a"} 5
troika_time_to_first_token_seconds_bucket{model="a",le="0.1"} 90
troika_time_to_first_token_seconds_bucket{model="a",le="1"} 96
troika_time_to_first_token_seconds_bucket{model="a",le="+Inf"} 100
troika_connections 7
nonsense
"""


def test_models_are_added_up() -> None:
    reading = Reading.of(TEXT)
    assert (reading.running, reading.queued) == (3, 5)
    assert reading.ttft == {0.1: 90, 1.0: 96, math.inf: 100}
    assert Reading.of("") == Reading()


def test_quantiles_are_of_what_came_between() -> None:
    now = {0.1: 90.0, 1.0: 96.0, math.inf: 100.0}
    assert quantile(0.5, now, {}) == 0.1
    assert quantile(0.95, now, {}) == 1.0
    assert quantile(0.99, now, {}) == 1.0, "the last bucket has no end"
    assert quantile(0.5, now, {0.1: 90.0, 1.0: 90.0, math.inf: 90.0}) == 1.0
    assert quantile(0.5, now, now) is None
    assert quantile(0.5, {}, {}) is None
    assert quantile(0.5, now, {0.1: 500.0, math.inf: 500.0}) == 0.1, "a restart counts from nought"


def test_a_window_forgets() -> None:
    def slow(count: float) -> Reading:
        return Reading(ttft={0.1: 10.0, 5.0: 10.0 + count, math.inf: 10.0 + count})

    window = Window(30.0)
    assert window.add(0.0, slow(0))["ttft_s"] == 0.1
    assert window.add(10.0, slow(10))["ttft_s"] == 5.0
    assert window.add(35.0, slow(10))["ttft_s"] == 5.0
    assert "ttft_s" not in window.add(41.0, slow(10))


@pytest.mark.parametrize(
    ("wanted", "current", "requests", "ttft_s", "wait_s"),
    [
        (0.5, 1, 8, None, None),  # Half of what one should have.
        (3, 2, 48, 0.1, 0.0),  # The queue alone.
        (4, 2, 200, 0.1, 0.0),  # No more than twice as many at once.
        (3, 2, 8, 7.5, 5.0),  # First tokens come late, and wait most of the time.
        (4, 2, 8, 60.0, 55.0),
        (2, 2, 8, 7.5, 1.0),  # A long prompt: more replicas would not help, fewer would harm.
        (2, 2, 8, 3.0, 0.0),  # Near to the limit: no fewer.
        (0.5, 2, 8, 1.0, 0.0),  # At ease.
        (0, 2, 0, 60.0, 55.0),  # Nobody is here any more.
        (1, 0, 16, None, None),
    ],
)
def test_how_many(wanted: float, current: int, requests: float, ttft_s: float | None, wait_s: float | None) -> None:
    assert QueueAndTtft(16.0, 5.0).wanted(current, requests, ttft_s, wait_s) == pytest.approx(wanted)


def test_ttft_may_be_no_matter() -> None:
    assert QueueAndTtft(16.0, None).wanted(2, 8, 60.0, 55.0) == 0.5


def test_serves_hook_takes_the_worst_replica() -> None:
    ctx = SimpleNamespace(
        aggregated_metrics={"ttft_s": {"a": 0.1, "b": 10.0}, "wait_s": {"a": 0.0, "b": 9.0}},
        current_num_replicas=2,
        total_num_requests=4.0,
    )
    assert QueueAndTtft(16.0, 5.0)(ctx) == (4.0, {})
    ctx.aggregated_metrics = None
    assert QueueAndTtft(16.0, 5.0)(ctx) == (0.25, {})


def test_metrics_of_several_replicas_are_one_text() -> None:
    text = merge({"x": TEXT, "y": TEXT})
    assert text.count("# TYPE troika_jobs_running gauge") == 1
    for line in ['troika_jobs_running{replica="x",model="a"} 2', 'troika_jobs_running{replica="y",model="b"} 1']:
        assert line in text.splitlines()
    assert 'troika_connections{replica="y"} 7' in text.splitlines()
    lines = text.splitlines()
    running = [index for index, line in enumerate(lines) if line.startswith("troika_jobs_running")]
    assert running == list(range(running[0], running[0] + 4)), "samples of a metric stand together"
