"""How many replicas there should be: by what is waiting, and by how long first tokens take.

Serve's controller runs this, in a process that may not have this package: the file imports nothing of it.
"""

from __future__ import annotations

import math
from typing import Any

# Below this share of the allowed time to the first token there is room for fewer replicas.
_AT_EASE = 0.5
# One step at most doubles the number: a long queue in one moment is no reason for a whole data centre.
_GROWTH_MAX = 2.0


class QueueAndTtft:
    """The greater of two numbers: what the requests need, and what the time to the first token needs.

    A long time to the first token asks for more replicas only if much of it was spent waiting: against a prompt that
    takes long to read, more replicas do nothing.
    """

    def __init__(self, target_ongoing: float, target_ttft: float | None) -> None:
        """`target_ongoing` requests for each replica; `target_ttft` in seconds, None if it does not matter."""
        self._target_ongoing = target_ongoing
        self._target_ttft = target_ttft

    def __call__(self, ctx: Any) -> tuple[float, dict[str, Any]]:
        """Serve's hook. Serve itself applies delays and bounds to the answer."""
        metrics = ctx.aggregated_metrics or {}
        worst = {name: max(metrics.get(name, {}).values(), default=None) for name in ("ttft_s", "wait_s")}
        wanted = self.wanted(ctx.current_num_replicas, ctx.total_num_requests, worst["ttft_s"], worst["wait_s"])
        return wanted, {}

    def wanted(self, current: int, requests: float, ttft_s: float | None, wait_s: float | None) -> float:
        """`requests` are those that run or wait anywhere; times are the 95th percentile of the worst replica."""
        by_queue = requests / self._target_ongoing
        by_ttft = 0.0
        if self._target_ttft is not None and ttft_s is not None and requests > 0:
            strain = ttft_s / self._target_ttft
            if strain > 1.0 and (wait_s or 0.0) >= ttft_s / 2:
                by_ttft = current * min(strain, _GROWTH_MAX)
            elif strain > _AT_EASE:
                by_ttft = float(current)
        wanted = max(by_queue, by_ttft)
        return min(wanted, math.ceil(current * _GROWTH_MAX)) if current else wanted
