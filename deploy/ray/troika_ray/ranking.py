"""Which replica a request should go to: the order in which they are asked. Plain functions, without Ray.

Rendezvous hashing: each replica's claim on a conversation is a hash of both, and the strongest claim wins. All fronts come
to the same order without talking to each other, and when a replica comes or goes, only the conversations that it gets or
had move. A replica that is busier than the others by `spill_factor` is passed over for as long as that is so.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Mapping


def claim(replica: str, affinity: str) -> bytes:
    """How strongly a replica claims what has this affinity."""
    return hashlib.blake2b(f"{replica}\0{affinity}".encode(), digest_size=8).digest()


def rank(
    ongoing: Mapping[str, int],
    affinity: str,
    avoid: Collection[str] = (),
    spill_factor: float = 1.25,
    spill_floor: int = 4,
) -> list[str]:
    """All replicas, best first.

    `ongoing` has the requests of each. Without an affinity the idlest is best. A replica to avoid stands behind all that
    are not: it is still better than none.
    """
    idlest = sorted(ongoing, key=lambda replica: (ongoing[replica], random.random()))
    if affinity:
        limit = max(spill_floor, spill_factor * sum(ongoing.values()) / max(1, len(ongoing)))
        claims = sorted(ongoing, key=lambda replica: claim(replica, affinity), reverse=True)
        order = [replica for replica in claims if ongoing[replica] < limit]
        order += [replica for replica in idlest if ongoing[replica] >= limit]
    else:
        order = idlest
    return sorted(order, key=lambda replica: replica in avoid)
