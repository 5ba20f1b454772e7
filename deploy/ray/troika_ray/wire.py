"""What fronts and replicas say to each other.

An answer is a stream of a replica's name, then one `Head`, then bytes as they come. A `Lost` may stand anywhere after the
name, and ends it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Headers = list[tuple[bytes, bytes]]

# They speak of one connection, and a request passes several. A body's length is told anew by whoever sends it on.
_OF_ONE_CONNECTION = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade", b"content-length"),
    )
)


def passed_on(headers: Headers, *but: bytes) -> Headers:
    """Headers of a message as they are when it is passed on, without those named. Names are in lower case."""
    return [(name, value) for name, value in headers if name not in _OF_ONE_CONNECTION and name not in but]


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it came. `target` is the path and what stands behind it.

    Whoever prints one, as in a traceback, prints neither keys nor prompts.
    """

    method: str
    target: str = field(repr=False)
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wish:
    """Where a request would like to go: `affinity` is "" if that is no matter, `avoid` has names of replicas."""

    affinity: str = ""
    avoid: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Head:
    """The status and headers of an answer."""

    status: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class Lost:
    """The answer goes no further. `sent`: whether the server may have begun with the request."""

    sent: bool
    why: str


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole answer of one of several replicas that were all asked."""

    replica: str
    head: Head
    body: bytes = field(repr=False)
