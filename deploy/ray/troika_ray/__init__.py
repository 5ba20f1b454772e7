"""`troika serve` on the nodes of a Ray cluster, behind one address.

A request's way: Serve's proxy -> `front.Front`, on the node where the connection ends -> `routing.PrefixRouter`, which
prefers the replica that has read the beginning of this conversation -> `replica.Replica`, an actor that owns one
`troika serve` -> and the answer back the same way, piece by piece.

Nothing here reads a prompt but to hash its beginning, and nothing writes one down. `app.build` is where to start.
"""
