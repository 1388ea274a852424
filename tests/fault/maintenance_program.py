"""A committer that maintains one table, a little at a time, and kills itself on the way.

Run with ``python -m``, the moment at which it dies, the lake and the URL of Redis.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from enum import StrEnum
from itertools import count
from typing import Any

from deltaq.tasks.inbox import Inbox
from deltaq.tasks.settings import load_settings
from deltaq.worker.engines import native_bins, native_maintenance, native_optimize
from deltaq.worker.engines.native_change import Change
from deltaq.worker.maintenance import slicing
from tests.support.bench import Bench

#: Files of a partition that are put together in one commit.
FILES = 3


class Moment(StrEnum):
    """A moment between two durable facts of maintenance."""

    BIN_WRITTEN = "bin_written"  # the file is there, in no version
    BIN_LOGGED = "bin_logged"  # in the table's log, not yet synced
    PACK_LOGGED = "pack_logged"  # as delta-rs commits it
    SLICE_DONE = "slice_done"  # durable, Redis does not know
    PUT_DOWN = "put_down"  # and now it does
    ALL_DONE = "all_done"  # the ledger has not moved
    LISTED = "listed"  # what a vacuum is to remove
    REMOVED = "removed"  # some of it


#: Where each moment is: whose attribute, after it or before, and at which call.
_PLACES: dict[Moment, tuple[Any, str, str, int]] = {
    Moment.BIN_WRITTEN: (native_bins, "_copy", "after", 2),
    Moment.BIN_LOGGED: (native_optimize, "put_together", "after", 2),
    Moment.PACK_LOGGED: (native_optimize._Optimizing, "_rewrite", "after", 1),
    Moment.SLICE_DONE: (Inbox, "put_down", "before", 2),
    Moment.PUT_DOWN: (Inbox, "put_down", "after", 2),
    Moment.ALL_DONE: (Change, "_advance_ledger", "before", 1),
    Moment.LISTED: (native_maintenance, "_unneeded", "after", 1),
    Moment.REMOVED: (native_maintenance, "remove_files", "after", 2),
}


def little_at_a_time(patch: Callable[[Any, str, Any], None]) -> None:
    """Make slices of one commit, or a few files."""
    for module in (native_optimize, native_maintenance):
        patch(module, "SLICE_SECONDS", 0)
    for name in ("_PACK_FILES", "_BIN_FILES"):
        patch(slicing, name, FILES)
    patch(native_maintenance, "_REMOVED_AT_ONCE", FILES)


def _die_at(moment: Moment) -> None:
    owner, name, when, which = _PLACES[moment]
    function, calls = getattr(owner, name), count(1)

    @functools.wraps(function)
    def dying(*args: Any, **options: Any) -> Any:
        last = next(calls) == which
        if last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        told = function(*args, **options)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return told

    setattr(owner, name, dying)


def _main(moment: str, lake: str, redis_url: str) -> None:
    little_at_a_time(setattr)
    _die_at(Moment(moment))
    bench = Bench(load_settings(lake=lake, redis_url=redis_url, maintenance_share=1))
    while True:  # it hands the table back after some seconds
        bench.committer.drain("t")


if __name__ == "__main__":
    _main(*sys.argv[1:])
