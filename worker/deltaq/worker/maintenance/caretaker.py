"""Looks after the tables that a worker commits to: asks for maintenance when their policy does.

It asks by ordinary requests on the maintenance lane, whoever then performs them. The id of such a
request tells its place in the lane, so that of several workers that ask at once one is heard.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.policy import CLIENT_ID, default_policy, table_policy
from deltaq.tasks.request import Lane, Optimize, Request, Vacuum
from deltaq.tasks.settings import Settings
from deltaq.tasks.signing import signer_of
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines import NotNative
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.lake import Lake
from deltaq.worker.maintenance.last import hours_since
from deltaq.worker.maintenance.open_reads import OpenReads
from deltaq.worker.maintenance.wishes import SLEEPS_WITH, Wish, wish_for
from deltaq.worker.observers import GroupCommitted, Observer
from deltaq.worker.orders import stage_order

logger = logging.getLogger(__name__)

#: Seconds between two rounds.
_ROUND = 2.0
#: Commits after which a table is looked at while it is written to.
_BUSY_COMMITS = 8
#: Seconds without a commit after which a table counts as asleep.
_ASLEEP = 10.0
#: Seconds for which a table is left alone after maintenance of it failed.
_GIVE_UP = 3600.0
#: Tables remembered.
_REMEMBERED = 1024
#: Seconds between two times that old entries of a table's log are removed.
_CLEANED_EVERY = 3600.0
#: Characters of a reason; it is the user of the request.
_REASON = 100


@dataclass
class _Known:
    """What is known of a table."""

    commits: int = 0
    last: float = 0.0
    asleep: bool = False
    #: ``time.monotonic()`` before which nothing is asked for, and before which its log is let be.
    not_before: float = 0.0
    clean_from: float = 0.0


class Caretaker(Observer):
    """Asks for the maintenance of tables, in a thread of its own.

    Args:
        native: Tells what tables are like; changes none where settings say ``engine=spark``.
        inbox: Where requests go.
        settings: The policy of tables that have none of their own.
        open_reads: Tells which versions are being read.
        ring: Sends a wake-up.
    """

    def __init__(
        self,
        native: NativeEngine,
        inbox: Inbox,
        settings: Settings,
        *,
        open_reads: OpenReads,
        ring: Callable[[str, Lane], None],
    ) -> None:
        self._native = native
        self._inbox = inbox
        self._open_reads = open_reads
        self._ring = ring
        self._lake = Lake(settings.lake)
        self._staging = StagingArea(settings.staging_root)
        self._signer = signer_of(settings)
        self._default = default_policy(settings)
        self._has_spark = settings.spark == "on"
        self._native_writes = settings.engine != "spark"
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._hours: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deltaq-caretaker", daemon=True)

    def group_committed(self, commit: GroupCommitted) -> None:
        """Note that a table has changed."""
        if commit.group.first.client_id == CLIENT_ID:
            return
        with self._lock:
            known = self._known.setdefault(commit.group.table, _Known())
            self._known.move_to_end(commit.group.table)
            known.commits += 1
            known.last = time.monotonic()
            known.asleep = False
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    def settled(self, lane: Lane, outcomes: Any, requests: Any) -> None:
        """Note that what was asked for cannot be done."""
        outcome: Outcome
        for outcome, request in zip(outcomes, requests, strict=False):
            if request.client_id == CLIENT_ID and outcome.state is State.FAILED:
                with self._lock:
                    known = self._known.setdefault(outcome.table, _Known())
                    known.not_before = time.monotonic() + _GIVE_UP

    def start(self) -> None:
        """Begin to look after tables."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(_ROUND):
            for table, asleep in self.due():
                try:
                    self.look_after(table, asleep=asleep)
                except DeltaqError as exc:
                    logger.info("table %s: not looked after now: %s", table, exc)
                except NotNative as exc:
                    logger.debug("table %s: its maintenance is not by policy: %s", table, exc)
                except Exception:
                    # Nothing depends on it, and the others want to be looked after.
                    logger.exception("table %s: not looked after", table)

    def due(self) -> list[tuple[str, bool]]:
        """List the tables to look at now, and whether each one sleeps."""
        now, found = time.monotonic(), []
        with self._lock:
            for table, known in self._known.items():
                sleeps = now - known.last >= _ASLEEP
                falls_asleep = sleeps and not known.asleep
                if now < known.not_before or not (falls_asleep or known.commits >= _BUSY_COMMITS):
                    continue
                known.commits, known.asleep = 0, sleeps
                found.append((table, sleeps))
        return found

    def look_after(self, table: str, *, asleep: bool) -> Request | None:
        """Ask for what a table needs; return the request, None for nothing.

        Args:
            table: The table.
            asleep: Nobody has written to it for a while.

        Raises:
            DeltaqError: It cannot be told now, or not be asked for.
            NotNative: Only Spark can read it.
        """
        place = self._inbox.next_place(table, Lane.MAINTENANCE)
        if place is None or not self._lake.exists(table):
            return None
        survey = self._native.survey(table)
        if self._native_writes:
            if asleep and survey.commits_since_checkpoint >= SLEEPS_WITH:
                self._native.checkpoint(table)
            self._clean_log(table)
        if survey.needs_spark and not self._has_spark:
            return None
        policy = table_policy(survey.properties, self._default)
        wanted = [kind for kind in ("zorder", "vacuum") if getattr(policy, f"{kind}_hours")]
        wish = wish_for(
            survey,
            policy,
            idle=asleep,
            checkpoints=not self._native_writes,
            now=datetime.now(UTC),
            hours_since={"zorder": math.inf, "vacuum": math.inf, **self._since(table, wanted)},
        )
        return self._ask(table, wish, place) if wish else None

    def _clean_log(self, table: str) -> None:
        """Remove old entries of a log, as Spark does by itself; not under who reads old versions."""
        now = time.monotonic()
        with self._lock:
            known = self._known.setdefault(table, _Known())
            if now < known.clean_from:
                return
            known.clean_from = now + _CLEANED_EVERY
        if not self._open_reads.of(table).versions:
            self._native.clean_log(table)

    def _since(self, table: str, kinds: list[str]) -> dict[str, float]:
        missing = [kind for kind in kinds if (table, kind) not in self._hours]
        now = time.time()
        if missing:
            for kind, hours in hours_since(self._lake.path(table), missing).items():
                self._note_done(table, kind, now - hours * 3600)
        return {kind: (now - self._hours[table, kind]) / 3600 for kind in kinds}

    def _note_done(self, table: str, kind: str, moment: float) -> None:
        self._hours[table, kind] = moment
        if len(self._hours) > _REMEMBERED:
            self._hours.popitem(last=False)

    def _ask(self, table: str, wish: Wish, place: str) -> Request:
        request_id = f"policy-{place}"
        request = stage_order(
            self._staging,
            wish.kind(
                request_id=request_id,
                table=table,
                lane=Lane.MAINTENANCE,
                client_id=CLIENT_ID,
                submitted_at_ms=time.time_ns() // 1_000_000,
                digest=hashlib.blake2b(request_id.encode(), digest_size=16).hexdigest(),
                size_bytes=0,
                submitted_by=f"policy: {wish.why}"[:_REASON],
                **wish.options,
            ),
            self._signer,
        )
        submitted = self._inbox.submit(request)
        ordered = isinstance(request, Optimize) and request.zorder
        if ordered or wish.kind is Vacuum:
            self._note_done(table, "zorder" if ordered else "vacuum", time.time())
        logger.info("table %s: %s asked for by policy: %s", table, request_id, wish.why)
        if submitted.ring:
            self._ring(table, Lane.MAINTENANCE)
        return request
