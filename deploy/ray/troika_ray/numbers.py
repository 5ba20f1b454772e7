"""What a replica's `/metrics` says of its queue and of how long first tokens take.

A histogram there counts from the start of the process. What matters for scaling is the last half minute, so this keeps
older readings and takes differences.
"""

from __future__ import annotations

import math
import re
from collections import deque
from dataclasses import dataclass, field

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LE = re.compile(r'le="([^"]+)"')

_TTFT = "troika_time_to_first_token_seconds_bucket"
_WAIT = "troika_queue_wait_seconds_bucket"


@dataclass
class Reading:
    """One look at `/metrics`, all models added up. Buckets: upper bound in seconds -> count up to it."""

    running: float = 0.0
    queued: float = 0.0
    ttft: dict[float, float] = field(default_factory=dict)
    wait: dict[float, float] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> Reading:
        """Reads Prometheus' text format. Lines of other metrics, and lines that are none, are passed over."""
        reading = cls()
        for line in text.splitlines():
            match = _SAMPLE.match(line)
            if match is None:
                continue
            name, labels, value = match[1], match[2] or "", float(match[3])
            if name == "troika_jobs_running":
                reading.running += value
            elif name == "troika_jobs_queued":
                reading.queued += value
            elif name in (_TTFT, _WAIT) and (le := _LE.search(labels)):
                buckets = reading.ttft if name == _TTFT else reading.wait
                bound = float(le[1].replace("+Inf", "inf"))
                buckets[bound] = buckets.get(bound, 0.0) + value
        return reading


def quantile(share: float, now: dict[float, float], before: dict[float, float]) -> float | None:
    """The time that `share` of what came between two readings did not exceed: the bucket's upper bound, in seconds.

    None if nothing came. The last bucket has no end; what fell into it is told as its lower bound.
    """
    if any(now.get(bound, 0.0) < count for bound, count in before.items()):
        before = {}  # The process was started anew, and counts from nought.
    counts = {bound: count - before.get(bound, 0.0) for bound, count in sorted(now.items())}
    total = counts.get(math.inf, 0.0)
    if total <= 0:
        return None
    finite = [bound for bound in counts if bound < math.inf]
    return next((bound for bound in finite if counts[bound] >= share * total), max(finite, default=None))


class Window:
    """Readings of the last `span_s` seconds."""

    def __init__(self, span_s: float) -> None:
        """Empty."""
        self._span_s = span_s
        self._readings: deque[tuple[float, Reading]] = deque()

    def add(self, at_s: float, reading: Reading) -> dict[str, float]:
        """Takes a reading and tells what there is to scale by, under the names that `scaling` reads.

        What is not known has no entry.
        """
        self._readings.append((at_s, reading))
        # The one before the window stays: differences are taken from it.
        while len(self._readings) > 1 and self._readings[1][0] <= at_s - self._span_s:
            self._readings.popleft()
        first = self._readings[0][1] if len(self._readings) > 1 else Reading()
        told = {"running": reading.running, "queued": reading.queued}
        for name, now, before in (("ttft_s", reading.ttft, first.ttft), ("wait_s", reading.wait, first.wait)):
            if (value := quantile(0.95, now, before)) is not None:
                told[name] = value
        return told
