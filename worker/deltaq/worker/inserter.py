"""Puts forgotten requests back among those that wait in an inbox, by age."""

from __future__ import annotations

import re

from deltaq.tasks.errors import DeltaqError, InvalidRequest, InvalidTableName, StagedDataMissing
from deltaq.tasks.location import Location
from deltaq.tasks.memory import Memory
from deltaq.tasks.request import Lane, Request, decode_request
from deltaq.tasks.staging import staged_request
from deltaq.worker.lease import Lease

#: Requests in one call to Redis.
_BATCH = 500
#: A UUIDv7 begins with 48 bits of milliseconds.
_UUID7 = re.compile(r"[0-9a-f]{12}7[0-9a-f]{19}", re.ASCII)

#: Milliseconds in hexadecimal, then what tells requests of one millisecond apart.
Age = tuple[str, str]
_OLDEST: Age = ("", "")


def age_of(request: Request) -> Age:
    """Order requests: by their ids if those are UUIDv7, else by when they were submitted."""
    if _UUID7.fullmatch(request.request_id):
        return request.request_id[:12], request.request_id
    return f"{request.submitted_at_ms:012x}", request.request_id


def age_of_file(file: Location) -> Age:
    """Tell the age of the request in a file, from its name if that tells."""
    if _UUID7.fullmatch(file.stem):
        return file.stem[:12], file.stem
    try:
        return age_of(staged_request(file))
    except (StagedDataMissing, InvalidRequest, InvalidTableName):
        return _OLDEST


class Inserter:
    """Merges forgotten requests into what waits in a lane, by age.

    Args:
        memory: Where to.
        lease: Of the table.
        lane: The lane.
        above: Last sequence of the lane that the table has, as far as known.
    """

    def __init__(self, memory: Memory, lease: Lease, lane: Lane, above: int) -> None:
        self._memory = memory
        self._lease = lease
        self._lane = lane
        self._above = above
        self._place = 0
        self._batch: list[Request] = []
        self._inserted = 0

    def add(self, request: Request) -> None:
        """Put in a request that is younger than those before."""
        self._batch.append(request)
        if len(self._batch) == _BATCH:
            self._flush()

    def close(self) -> int:
        """Put in the rest and return how many went in."""
        self._flush()
        return self._inserted

    def _flush(self) -> None:
        """Put the batch in, each request before the first one that is younger."""
        while self._batch:
            next_age = self._pass_older_than(age_of(self._batch[0]))
            count = sum(next_age is None or age_of(r) < next_age for r in self._batch)
            inserted, self._place = self._memory.insert(
                self._lease.table,
                self._lane,
                self._batch[:count],
                after=self._place,
                above=self._above,
                token=self._lease.token,
            )
            self._inserted += inserted
            del self._batch[:count]

    def _pass_older_than(self, age: Age) -> Age | None:
        """Move the place behind all that is older; return the age of what comes next."""
        table = self._lease.table
        while entries := self._memory.after(table, self._lane, self._place, count=_BATCH):
            for entry in entries:
                try:
                    other = age_of(decode_request(entry.wire))
                except DeltaqError:
                    other = _OLDEST  # refused when it is its turn
                if other > age:
                    return other
                self._place = entry.sequence
        return None
