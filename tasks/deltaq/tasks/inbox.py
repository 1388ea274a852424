"""The queue of each table: what clients put in and workers take out.

Each method is one call to Redis; the Lua scripts are in ``lua/``, the keys in ``keys.py``.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import redis

from deltaq.tasks import keys
from deltaq.tasks.calls import (
    Submitted,
    cancellation,
    claims,
    look_at_claims,
    look_ups,
    looked_up,
    submission,
    submitted,
)
from deltaq.tasks.connection import Scripts, queue_errors
from deltaq.tasks.entries import Clock, Entry, Settled
from deltaq.tasks.errors import LeaseLost
from deltaq.tasks.outcome import Outcome, State, encode_outcome, encode_outcomes
from deltaq.tasks.request import Lane, Request
from deltaq.tasks.slices import Slices, decode_slices, encode_slices

if TYPE_CHECKING:  # pydantic takes 0.1 s to import: not before there are settings
    from deltaq.tasks.settings import Settings

LANES = tuple(Lane)
#: Characters kept of an error that is noted beside a table's sequences.
_CAUSE_LENGTH = 500
#: Tables that the sweeper looks at in one call.
_TABLES_AT_ONCE = 500


class Inbox:
    """The inboxes of all tables in one Redis."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._client = client
        self._scripts = Scripts(client)
        self._settings = settings

    def submit(self, request: Request, *, anew: bool = False) -> Submitted:
        """Put a request in its inbox, once; durable when this returns.

        One that has expired already is not put there: its outcome is in the answer.

        Args:
            request: The request.
            anew: If it failed or was cancelled, forget that; it gets another sequence and outcome.

        Raises:
            RequestIdConflict: The id was used for a request with other content.
            QueueFull: The lane has as many requests or bytes as it may; nothing was queued.
            QueueUnavailable: Redis did not answer; submitting again is safe.
        """
        reply = self._scripts.run("submit", *submission(request, self._settings, anew=anew))
        return submitted(request, self._settings, reply)

    def cancel(self, request: Request, *, reason: Outcome) -> State | None:
        """Take a request out of its inbox if no committer has claimed it.

        Returns:
            The state after the call: CANCELLED when it is certain never to be applied, QUEUED
            when a committer has it; None when Redis does not know the request.
        """
        state = self._scripts.run("cancel", *cancellation(request, self._settings, reason))
        return State(state) if state else None

    def outcomes(self, requests: Sequence[tuple[str, str]]) -> list[Outcome | State | None]:
        """Look up what came of requests, given as (table, request id) pairs.

        Returns:
            In the same order: the outcome when settled, QUEUED, or None when unknown.
        """
        return looked_up(requests, self._ask(look_ups(requests)))

    def claimed(self, lanes: Sequence[tuple[str, Lane]]) -> list[int]:
        """Tell the last sequence that any committer has claimed, in lanes of tables."""
        return claims(self._ask(look_at_claims(lanes)))

    def _ask(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        with queue_errors():
            return list(pipeline.execute())

    def peek(self, table: str, lane: Lane, *, count: int) -> list[Entry]:
        """Read the first requests of a lane without removing them."""
        with queue_errors():
            entries: Any = self._client.xrange(keys.inbox(table, lane), count=count)
        return [
            Entry(
                sequence=int(entry_id.partition("-")[0]),
                wire=fields["r"],
                deadline_ms=int(fields["d"]) if "d" in fields else None,
            )
            for entry_id, fields in entries
        ]

    def clock(self, table: str, lane: Lane) -> Clock:
        """Read what decides whether a request of a lane has expired."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.time()
        pipeline.hget(keys.seq(table), f"claimed:{lane}")
        with queue_errors():
            (seconds, microseconds), claimed = pipeline.execute()
        return Clock(now_ms=seconds * 1000 + microseconds // 1000, claimed=int(claimed or 0))

    def ping(self) -> None:
        """Make sure that Redis answers.

        Raises:
            QueueUnavailable: It does not.
        """
        with queue_errors():
            self._client.ping()

    def claim(
        self, table: str, lane: Lane, sequences: Sequence[int], *, token: str, attempt: int = 0
    ) -> int:
        """Declare that these requests, neighbours in their lane, are about to be applied.

        The claim stays open until they are acknowledged or :meth:`unclaim` ends it. One that
        is open when somebody else takes the lease counts as a crash.

        Args:
            table: The table.
            lane: The lane.
            sequences: Of the requests.
            token: Of the lease.
            attempt: Which try of them it is, if the caller knows; counted in Redis otherwise.

        Returns:
            The attempt, from 1; or 0 when one of them was cancelled since it was read; or -1
            when nobody has vouched yet for the memory of the server, which was restarted.

        Raises:
            LeaseLost: Another worker has the table.
        """
        reply = self._scripts.run(
            "claim",
            [keys.lease(table), keys.inbox(table, lane), keys.seq(table)],
            [token, lane, sequences[0], sequences[-1], len(sequences), attempt],
        )
        if reply == -2:
            raise _lost(table)
        return int(reply)

    def unclaim(
        self, table: str, lane: Lane, *, token: str, crash: str = "", untried: bool = False
    ) -> int:
        """End a claim that came to no outcome.

        Args:
            table: The table.
            lane: The lane.
            token: Of the lease under which it was claimed, lost or not.
            crash: Why it counts as a crash; empty if it ended in order.
            untried: Nobody began to apply the requests, so it does not count as an attempt.

        Returns:
            How many crashes are held against what was claimed.
        """
        args: list[Any] = [token, lane, crash[:_CAUSE_LENGTH], int(untried)]
        return int(self._scripts.run("unclaim", [keys.seq(table)], args))

    def next_place(self, table: str, lane: Lane) -> str | None:
        """Name the place that the next request of a lane will have, for the id of one.

        Returns:
            Other text for each place in each life of the counters; None while requests wait in
            the lane, or when Redis does not know the table.
        """
        pipeline = self._client.pipeline(transaction=False)
        pipeline.hmget(keys.seq(table), "epoch", lane)
        pipeline.xlen(keys.inbox(table, lane))
        with queue_errors():
            (epoch, last), waiting = pipeline.execute()
        return f"{epoch}-{int(last or 0) + 1}" if epoch and not waiting else None

    def put_down(self, table: str, lane: Lane, slices: Slices, *, token: str) -> None:
        """End the claim of a request of which a slice is done, and keep how far it came.

        Raises:
            LeaseLost: Another worker has the table.
        """
        lease = [keys.lease(table), keys.seq(table)]
        if not self._scripts.run("put_down", lease, [token, lane, encode_slices(slices)]):
            raise _lost(table)

    def slices(self, table: str, request_id: str) -> Slices | None:
        """Tell how far a request came that is done in slices; None at its beginning."""
        with queue_errors():
            kept: Any = self._client.hget(keys.seq(table), "slices")
        return decode_slices(kept, request_id)

    def note_retry(
        self, table: str, error: str, *, first: float, longest: float, token: str
    ) -> float:
        """Note that a table is tried again, for whoever asks for the status; return the pause.

        The pause doubles with each try since the table was last well, up to ``longest``, less
        a random part of up to a half. Until it is over the table counts as not forgotten.

        Raises:
            LeaseLost: Another worker has the table.
        """
        milliseconds = self._scripts.run(
            "retry",
            [keys.lease(table), keys.seq(table)],
            [
                token,
                error[:_CAUSE_LENGTH],
                int(first * 1000),
                int(longest * 1000),
                random.uniform(0.5, 1),
            ],
        )
        if milliseconds < 0:
            raise _lost(table)
        return int(milliseconds) / 1000

    def acknowledge(
        self, table: str, lane: Lane, settled: Sequence[Settled], *, upto: int, token: str
    ) -> None:
        """Write outcomes, tell the clients and remove the requests, which head their lane.

        Args:
            table: The table.
            lane: The lane.
            settled: Their outcomes; a request that could not even be read has none.
            upto: The last sequence to remove; all before it go too.
            token: Of the lease.

        Raises:
            LeaseLost: Another worker has the table and will acknowledge them.
        """
        by_client: dict[str, list[Outcome]] = defaultdict(list)
        size_bytes = sum(s.size_bytes for s in settled)
        args: list[object] = [token, lane, upto, size_bytes, self._settings.outcome_ttl]
        for item in settled:
            args += [item.outcome.state, encode_outcome(item.outcome)]
            by_client[item.client_id].append(item.outcome)
        for client_id, outcomes in by_client.items():
            args += [keys.client_channel(client_id), encode_outcomes(outcomes)]
        versions = [s.outcome.version for s in settled if s.outcome.version is not None]
        if versions:
            args += [keys.commits_channel(table), max(versions)]
        reply = self._scripts.run(
            "acknowledge",
            [
                keys.lease(table),
                keys.inbox(table, lane),
                keys.seq(table),
                *(keys.request(table, s.outcome.request_id) for s in settled),
            ],
            args,
        )
        if not reply:
            raise _lost(table)

    def resequence(self, table: str, lane: Lane, *, above: int, token: str) -> int:
        """Give what waits in a lane new sequences above one, and return how many moved.

        Raises:
            LeaseLost: Another worker has the table.
        """
        moved = self._scripts.run(
            "resequence",
            [keys.lease(table), keys.inbox(table, lane), keys.seq(table)],
            [token, lane, above, keys.request(table, "")],
        )
        if moved < 0:
            raise _lost(table)
        return int(moved)

    def settle(self, client_id: str, outcome: Outcome, *, keep: float) -> None:
        """Keep the answer to a query for ``keep`` seconds and tell its client."""
        self._scripts.run(
            "settle",
            [keys.request(outcome.table, outcome.request_id)],
            [
                outcome.state,
                encode_outcome(outcome),
                int(keep),
                keys.client_channel(client_id),
                encode_outcomes([outcome]),
            ],
        )

    def forgotten(self, patience: Mapping[Lane, float]) -> dict[Lane, list[str]]:
        """Find the tables with requests for which no wake-up is under way; the caller rings them.

        Each call to Redis looks at some hundred tables, so that commits get in between.

        Args:
            patience: By lane, seconds for which a wake-up that was sent may be under way. That
                of a worker that lost its lease is known to be gone.
        """
        lanes = [item for lane in LANES for item in (lane, int(patience[lane] * 1000))]
        found: dict[Lane, set[str]] = defaultdict(set)
        cursor = "0"
        while True:
            cursor, *pairs = self._scripts.run(
                "forgotten", [keys.TABLES], [cursor, _TABLES_AT_ONCE, *lanes]
            )
            for table, lane in zip(pairs[::2], pairs[1::2], strict=True):
                found[Lane(lane)].add(table)
            if cursor == "0":
                return {lane: sorted(tables) for lane, tables in found.items()}


def _lost(table: str) -> LeaseLost:
    return LeaseLost(f"the lease of table {table} went to another worker", table=table)
