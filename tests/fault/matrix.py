"""The cells of the crash-point matrix. ``python -m tests.fault.matrix`` prints them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from tests.fault.work import Operation, Part
from tests.support.steps import COMMIT_STEPS, SUBMIT_STEPS, Step

Engine = Literal["native", "spark"]


class Fault(StrEnum):
    """What happens at a step."""

    KILL = "kill"  # SIGKILL of the worker; another one is started
    PAUSE_PAST_LEASE = "pause_past_lease"  # SIGSTOP until another worker has done the work
    REDIS_RESTART = "redis_restart"  # SIGKILL of Redis, which is started again on its data
    REDIS_EMPTIED = "redis_emptied"  # FLUSHALL: nothing is left in Redis, leases included
    CONNECTION_CUT = "connection_cut"  # between the worker and Redis, until another took over
    S3_CUT = "s3_cut"  # between all and S3, when it has done what it was asked, many times
    S3_REFUSES = "s3_refuses"  # the credentials fail, until the worker has noticed
    DISK_FULL = "disk_full"  # the lake's, until the worker has noticed
    JVM_KILLED = "jvm_killed"  # SIGKILL of Spark alone
    CLIENT_KILL = "client_kill"  # SIGKILL of the client, which is started again
    CLIENT_PAUSE = "client_pause"  # SIGSTOP of the client until the work is done
    CLIENT_REDIS_RESTART = "client_redis_restart"
    CLIENT_CONNECTION_CUT = "client_connection_cut"  # between the client and Redis, for a while
    CLIENT_DISK_FULL = "client_disk_full"  # the staging area's


@dataclass(frozen=True, kw_only=True)
class Run:
    """One fault for one engine; it hits a table for each of its cells at the same time."""

    engine: Engine
    fault: Fault
    steps: tuple[Step, ...]
    operations: tuple[Operation, ...] = tuple(Operation)
    parts: tuple[Part, ...] = tuple(Part)
    #: Where the lake and the staging area are.
    storage: Literal["disk", "s3"] = "disk"

    @property
    def place(self) -> str:
        return self.engine if self.storage == "disk" else f"{self.engine}-s3"

    @property
    def name(self) -> str:
        return f"{self.place}-{self.fault}"

    @property
    def cells(self) -> list[tuple[Step, Operation]]:
        return [(step, operation) for step in self.steps for operation in self.operations]


#: Steps of a commit at which much is at stake, for faults that are slow with Spark.
_CRITICAL = (
    Step.LEDGER_READ,
    Step.CLAIMED,
    Step.BEFORE_COMMIT,
    Step.LOGGED,
    Step.COMMITTED,
    Step.ACKNOWLEDGED,
)
#: Fewer for Spark, which takes a hundred times as long for each: no CREATE, which differs from
#: APPEND in delta-rs more than in Spark, and one append at the end.
_FOUR = (Operation.APPEND, Operation.MERGE, Operation.OVERWRITE, Operation.DELETE)
_THREE = (Part.TARGET, Part.BAD, Part.LATER)

_ON_DISK = [
    *(
        Run(engine="native", fault=fault, steps=COMMIT_STEPS)
        for fault in (
            Fault.KILL,
            Fault.PAUSE_PAST_LEASE,
            Fault.REDIS_RESTART,
            Fault.REDIS_EMPTIED,
            Fault.CONNECTION_CUT,
            Fault.DISK_FULL,
        )
    ),
    *(
        Run(engine="native", fault=fault, steps=SUBMIT_STEPS)
        for fault in Fault
        if fault.startswith("client")
    ),
    *(
        Run(engine="spark", fault=fault, steps=COMMIT_STEPS, operations=_FOUR, parts=_THREE)
        for fault in (Fault.KILL, Fault.PAUSE_PAST_LEASE)
    ),
    *(
        Run(engine="spark", fault=fault, steps=_CRITICAL, operations=_FOUR, parts=_THREE)
        for fault in (Fault.REDIS_RESTART, Fault.CONNECTION_CUT, Fault.DISK_FULL, Fault.JVM_KILLED)
    ),
]

_IN_S3 = [
    Run(engine="native", fault=fault, steps=COMMIT_STEPS, storage="s3")
    for fault in (Fault.KILL, Fault.S3_CUT, Fault.S3_REFUSES)
]
#: Those that run with lakes on a disk, and a few in S3.
RUNS = [*_ON_DISK, *(replace(run, steps=_CRITICAL, operations=_FOUR) for run in _IN_S3)]
#: Those that run with ``--storage s3``: all of native's, but for what is about disks.
S3_RUNS = [
    *_IN_S3,
    *(
        replace(run, storage="s3")
        for run in _ON_DISK
        if run.engine == "native"
        and run.fault not in (Fault.KILL, Fault.DISK_FULL, Fault.CLIENT_DISK_FULL)
    ),
]


#: Columns of the table of counts.
_PLACES = ("native", "spark", "native-s3")


def table_of(counts: Iterable[tuple[Run, int]]) -> str:
    """Write a table of counts: a line for each fault, a column for each engine and storage."""
    by_fault: dict[Fault, dict[str, str]] = {}
    total = dict.fromkeys(_PLACES, 0)
    for run, count in counts:
        told = f"{count} ({len(run.steps)} steps x {len(run.operations)} operations)"
        by_fault.setdefault(run.fault, {})[run.place] = told
        total[run.place] += count
    lines = [_line("fault", dict(zip(_PLACES, _PLACES, strict=True)))]
    lines += [_line(fault, cells) for fault, cells in by_fault.items()]
    lines.append(_line("all", {place: str(count) for place, count in total.items()}))
    return "\n".join(lines)


def _line(fault: str, cells: Mapping[str, str]) -> str:
    told = "".join(f"{cells.get(place, '-'):36}" for place in _PLACES)
    return f"{fault:24}{told}".rstrip()


if __name__ == "__main__":
    print(table_of((run, len(run.cells)) for run in RUNS))
