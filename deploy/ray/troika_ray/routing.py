"""The two choices that Serve leaves to an application: which replica, and which front.

Serve's proxies and fronts load these classes, the proxies without this package: `Nearby` uses nothing of it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ray.exceptions import RayError
from ray.serve.request_router import LocalityMixin, PendingRequest, ReplicaID, RequestRouter, RunningReplica

_SILENCE_S_MAX = 1.0


class PrefixRouter(RequestRouter):
    """The replica that has read the beginning of this conversation, unless it has too much to do."""

    def initialize_state(self, **kwargs: Any) -> None:
        """Serve's hook: takes what the configuration says."""
        self._spill_factor: float = kwargs["spill_factor"]
        self._spill_floor: int = kwargs["spill_floor"]
        # Since when, in seconds of the monotonic clock, a replica has not said whether it takes what it was given.
        self._silent_since: dict[str, float] = {}
        self._asked_after: dict[str, asyncio.Task[None]] = {}

    def on_send_request(self, replica_id: ReplicaID) -> None:
        """Serve's hook: a replica was given a request, and is to say at once whether it takes it."""
        super().on_send_request(replica_id)
        self._silent_since.setdefault(replica_id.unique_id, time.monotonic())

    def on_new_queue_len_info(self, replica_id: ReplicaID, num_ongoing_requests: int) -> None:
        """Serve's hook: a replica has said how much it has to do."""
        super().on_new_queue_len_info(replica_id, num_ongoing_requests)
        self._silent_since.pop(replica_id.unique_id, None)

    def decrement_queue_len_cache(self, replica_id: ReplicaID) -> None:
        """Serve's hook: a request is done. What all replicas are asked is not taken first, but done at once."""
        super().decrement_queue_len_cache(replica_id)
        self._silent_since.pop(replica_id.unique_id, None)

    def on_replica_actor_unavailable(self, replica_id: ReplicaID) -> None:
        """Serve's hook: what was given is known to be lost. Serve itself asks before it gives this one more."""
        super().on_replica_actor_unavailable(replica_id)
        self._silent_since.pop(replica_id.unique_id, None)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Serve's hook: who there is."""
        super().update_replicas(replicas)
        there = {replica.replica_id.unique_id for replica in replicas}
        self._silent_since = {name: since for name, since in self._silent_since.items() if name in there}

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Serve's hook: replicas in the order in which they are asked."""
        from .ranking import rank  # noqa: PLC0415 - Serve pickles this file by value

        affinity, avoid = "", frozenset[str]()
        if pending_request is not None:
            # Where all are full, Serve is to wait before it asks again.
            pending_request.routing_context.should_backoff = True
            wish = pending_request.kwargs.get("wish")
            if wish is not None:
                affinity, avoid = wish.affinity, wish.avoid
        by_name = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        # One that hangs, or is cut off, still looks alive to Serve for a while.
        spoken_s = time.monotonic() - _SILENCE_S_MAX
        silent = {name for name, since in self._silent_since.items() if since < spoken_s and name in by_name}
        for name in silent - self._asked_after.keys():
            self._asked_after[name] = asyncio.create_task(self._ask_after(by_name[name]))
        avoid = avoid | silent
        cache = self.replica_queue_len_cache
        ongoing = {name: cache.get(replica.replica_id) or 0 for name, replica in by_name.items()}
        order = rank(ongoing, affinity, avoid, self._spill_factor, self._spill_floor)
        return [[by_name[name]] for name in order]

    async def _ask_after(self, replica: RunningReplica) -> None:
        """Waits for a sign of life: the request that there was silence about may never get one, if its client left."""
        try:
            ongoing = await replica.get_queue_len(deadline_s=_SILENCE_S_MAX)
            self.on_new_queue_len_info(replica.replica_id, ongoing)
        except RayError:
            pass  # It is gone, and Serve will say so.
        finally:
            self._asked_after.pop(replica.replica_id.unique_id, None)


class Nearby(LocalityMixin, RequestRouter):
    """The front on the node where the client's connection ends, for as long as there is one.

    A request then depends on two nodes: that of its connection, without which it is lost anyway, and that of its replica,
    which the front can exchange.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Serve passes what it knows of the node."""
        super().__init__(*args, **kwargs)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Serve's hook."""
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True
        here = [replica for replica in candidate_replicas if replica.node_id == self._self_node_id]
        return [here or candidate_replicas]
