"""How far a request came that is done in slices, each a commit of its own.

It is kept in Redis between two slices. If it is lost, the request begins again, which does no
harm: what is compact already is left alone.
"""

from __future__ import annotations

import msgspec


class Slices(msgspec.Struct, frozen=True, kw_only=True):
    """What is done of a request of which more is to do.

    Attributes:
        request_id: The request.
        operation: Its operation.
        done: Partitions, or files, that are done.
        total: How many there are to do, those included.
        at: Where the next slice goes on; the engine knows what it means.
    """

    request_id: str
    operation: str
    done: int
    total: int
    at: str = ""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Slices)


def encode_slices(slices: Slices) -> bytes:
    """Write what is done as Redis keeps it."""
    return _encoder.encode(slices)


def decode_slices(wire: str | bytes | None, request_id: str) -> Slices | None:
    """Read what is done of a request; None if what is kept is another one's, or nothing."""
    if not wire or not request_id:
        return None
    slices = _decoder.decode(wire)
    return slices if slices.request_id == request_id else None
