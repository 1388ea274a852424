"""Which worker prepares which part, so that no two prepare the same one.

Two would do no harm: both write the same files, each appears whole, and the first to be done
counts. So a claim that Redis loses costs work and nothing else.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator

import msgspec
import redis

from deltaq.tasks import keys
from deltaq.tasks.backfill import Claim
from deltaq.tasks.connection import queue_errors
from deltaq.tasks.manifest import Manifest

#: Leases of a table after which the part of a worker that is gone is taken by another: what is
#: lost by waiting is less than what is done twice by a worker that was only slow.
_LEASES = 3
#: Parts that one call looks at.
_BATCH = 200
#: Seconds for which it is remembered how often a part was begun.
_TRIES_KEPT = 7 * 86400


class Claims:
    """The claims of one worker.

    Args:
        client: Connections to the queue's Redis.
        worker: The worker's name.
        lease_ttl: Seconds after which a silent committer is replaced.

    Attributes:
        ttl: Seconds for which a claim is good unless it is renewed.
    """

    def __init__(self, client: redis.Redis, worker: str, *, lease_ttl: float) -> None:
        self._client = client
        self._worker = worker
        self.ttl = _LEASES * lease_ttl

    def free(self, manifest: Manifest, parts: Iterable[int]) -> Iterator[int]:
        """Tell which of some parts nobody has, in order."""
        numbers = list(parts)
        for at in range(0, len(numbers), _BATCH):
            batch = numbers[at : at + _BATCH]
            with queue_errors():
                held = self._client.mget([self._key(manifest, n) for n in batch])
            yield from (n for n, claim in zip(batch, held, strict=True) if claim is None)

    def take(self, manifest: Manifest, part: int) -> str | None:
        """Claim a part; None if somebody has it."""
        claim = Claim(
            worker=self._worker,
            began_at_ms=time.time_ns() // 1_000_000,
            token=secrets.token_hex(8),
        )
        value = msgspec.json.encode(claim).decode()
        with queue_errors():
            key = self._key(manifest, part)
            taken = self._client.set(key, value, nx=True, px=int(self.ttl * 1000))
        return value if taken else None

    def renew(self, manifest: Manifest, part: int, value: str) -> None:
        """Keep a claim for another while, or take it again if Redis has forgotten it."""
        key = self._key(manifest, part)
        with queue_errors():
            if self._client.get(key) in (value, None):
                self._client.set(key, value, px=int(self.ttl * 1000))

    def release(self, manifest: Manifest, part: int, value: str) -> None:
        """Give a part back."""
        key = self._key(manifest, part)
        with queue_errors():
            if self._client.get(key) == value:
                self._client.delete(key)

    def count_try(self, manifest: Manifest, part: int, by: int = 1) -> int:
        """Count that a part is begun, or that beginning it was nothing; return how many there are."""
        key = keys.prepare_tries(manifest.table, manifest.backfill_id)
        with queue_errors():
            tries = int(self._client.hincrby(key, str(part), by))
            self._client.expire(key, _TRIES_KEPT)
        return tries

    def forget_tries(self, manifest: Manifest) -> None:
        """Begin to count anew."""
        with queue_errors():
            self._client.delete(keys.prepare_tries(manifest.table, manifest.backfill_id))

    def _key(self, manifest: Manifest, part: int) -> str:
        return keys.prepare_claim(manifest.table, manifest.backfill_id, part)
