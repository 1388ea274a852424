"""What Redis remembers of a table, and how it is told again after it forgot.

A server that was restarted, replaced or emptied is not believed: a table's keys name the run of
the server for which somebody has compared them with the table's log and the staged files.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

import redis

from deltaq.tasks import keys
from deltaq.tasks.connection import Scripts, queue_errors
from deltaq.tasks.entries import Entry
from deltaq.tasks.errors import LeaseLost
from deltaq.tasks.outcome import Outcome, encode_outcome, encode_outcomes
from deltaq.tasks.request import Lane, Request, encode_request, milliseconds_left
from deltaq.tasks.settings import Settings


class Memory:
    """What one Redis remembers of all tables."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._client = client
        self._scripts = Scripts(client)
        self._keep = settings.outcome_ttl

    def run_id(self) -> str:
        """Name the present run of the server; a restart or a failover gives another one."""
        with queue_errors():
            return str(self._client.info("server")["run_id"])

    def vouch(self, table: str, run_id: str, *, epoch: str | None, token: str) -> str:
        """Note that the server's memory of a table is complete; return the epoch.

        Args:
            table: The table.
            run_id: Of the server when the work that makes this true began.
            epoch: The one to go on with; None for that of Redis, or a new one.
            token: Of the lease.

        Raises:
            LeaseLost: Another worker has the table, or the server is another one by now.
        """
        epoch = self._scripts.run(
            "vouch",
            [keys.lease(table), keys.seq(table)],
            [token, run_id, epoch or "", secrets.token_hex(8)],
        )
        if not epoch:
            raise _lost(table)
        return str(epoch)

    def remember(self, table: str, committed: Sequence[Outcome], *, token: str) -> int:
        """Write the outcomes of committed requests, except where Redis has one.

        A request that waits in an inbox is taken out and its client told.

        Returns:
            How many were written.

        Raises:
            LeaseLost: Another worker has the table.
        """
        prefix = keys.inbox(table, Lane.LIVE).removesuffix(Lane.LIVE)
        args: list[object] = [token, self._keep, prefix, keys.client_channel("")]
        for outcome in committed:
            args += [outcome.sequence, encode_outcome(outcome), encode_outcomes([outcome])]
        hashes = (keys.request(table, outcome.request_id) for outcome in committed)
        written = self._scripts.run("remember", [keys.lease(table), keys.seq(table), *hashes], args)
        if written < 0:
            raise _lost(table)
        return int(written)

    def after(self, table: str, lane: Lane, sequence: int, *, count: int) -> list[Entry]:
        """Read the first requests of a lane that come after a sequence."""
        with queue_errors():
            entries: Any = self._client.xrange(
                keys.inbox(table, lane), min=f"({sequence}-0", count=count
            )
        return [Entry(sequence=int(i.partition("-")[0]), wire=f["r"]) for i, f in entries]

    def insert(
        self,
        table: str,
        lane: Lane,
        requests: Sequence[Request],
        *,
        after: int,
        above: int,
        token: str,
    ) -> tuple[int, int]:
        """Put those requests that Redis does not know into a lane, behind the sequence ``after``.

        They, and what follows there, get new sequences above ``above``. The limits of the inbox do not count: the
        requests were accepted before.

        Returns:
            How many were put in, and the sequence of the last one.

        Raises:
            LeaseLost: Another worker has the table.
        """
        args: list[object] = [token, lane, table, after, above, keys.request(table, "")]
        for request in requests:
            left = milliseconds_left(request)
            args += [encode_request(request), request.digest, request.size_bytes]
            args.append("" if left is None else left)
        inserted, last = self._scripts.run(
            "insert",
            [
                keys.lease(table),
                keys.inbox(table, lane),
                keys.seq(table),
                keys.TABLES,
                *(keys.request(table, r.request_id) for r in requests),
            ],
            args,
        )
        if inserted < 0:
            raise _lost(table)
        return int(inserted), int(last)

    def is_complete(self) -> bool:
        """Tell whether all staged files were looked at in the present run of the server."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.get(keys.RUN)
        pipeline.info("server")
        with queue_errors():
            looked_at, server = pipeline.execute()
        return bool(looked_at == server["run_id"])

    def set_complete(self, run_id: str) -> None:
        """Note that all staged files were looked at in a run of the server."""
        with queue_errors():
            self._client.set(keys.RUN, run_id)

    def doubtful(self, tables: Iterable[str], run_id: str) -> list[tuple[str, bool]]:
        """List those tables whose memory nobody has vouched for, and whether one is held now."""
        names = list(tables)
        pipeline = self._client.pipeline(transaction=False)
        for table in names:
            pipeline.hget(keys.seq(table), "run")
            pipeline.exists(keys.lease(table))
        with queue_errors():
            replies = iter(pipeline.execute())
        known = [(table, next(replies), bool(next(replies))) for table in names]
        return [(table, held) for table, run, held in known if run != run_id]


def _lost(table: str) -> LeaseLost:
    return LeaseLost(f"the lease of table {table} went to another worker", table=table)
