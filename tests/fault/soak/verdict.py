"""Whether every request of the soak is in its table once and in order, by log, rows and words."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deltalake import DeltaTable

from tests.fault.soak.plan import Kind, Row, Work, rows_after
from tests.support.log import committed_requests, committed_versions

#: The code of the error that a bad request must come back with.
_REFUSED = "schema_mismatch"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the caller of one request was told."""

    version: int | None
    error: str | None


def read_told(folder: Path) -> dict[str, Told]:
    """Read what all writers were told, by request id."""
    told: dict[str, Told] = {}
    for file in folder.glob("told-*"):
        for line in file.read_text().splitlines():
            request_id, version, error = json.loads(line)
            told[request_id] = Told(version=version, error=error)
    return told


@dataclass(frozen=True, kw_only=True)
class TableVerdict:
    """What one table says; every list is empty if all is well.

    Attributes:
        requests: Requests whose callers were told something.
        commits: Commits that hold them.
        lost: Ids of good requests that are not in the log.
        doubled: Ids of those that are there more than once.
        misordered: Ids that come after a later one of their writer, or whose sequence does.
        mistold: Ids whose callers were told something that is not so, and what.
        wrong_rows: Rows that are there and should not be, or the other way round.
    """

    requests: int
    commits: int
    lost: list[str]
    doubled: list[str]
    misordered: list[str]
    mistold: list[str]
    wrong_rows: list[str]

    @property
    def complaints(self) -> Iterator[str]:
        """Name what is wrong, a line for each kind."""
        for kind in ("lost", "doubled", "misordered", "mistold", "wrong_rows"):
            if found := getattr(self, kind):
                yield f"{len(found)} {kind}: {', '.join(map(str, found[:5]))}"


def judge(path: Path, told: dict[str, Told]) -> TableVerdict:
    """Hold a table to what its callers were told and to what its log says was done.

    Args:
        path: Folder of the table.
        told: By request id, for the requests on this table.
    """
    # Nobody was told of the maintenance that nobody asked for.
    versions = committed_versions(path, maintenance=False)
    in_log = Counter(request_id for request_id, _ in versions)
    good = {i for i in told if Work.of(i).kind is not Kind.BAD}
    done = [Work.of(request_id) for request_id, _ in versions]
    return TableVerdict(
        requests=len(told),
        commits=len({version for _, version in versions}),
        lost=sorted(good - set(in_log)),
        doubled=sorted(i for i, count in in_log.items() if count > 1),
        misordered=[*_backward_sequences(path), *_backward_numbers(done)],
        mistold=sorted(_mistold(told, dict(versions))),
        wrong_rows=_difference(_rows(path), rows_after(done)),
    )


def _backward_sequences(path: Path) -> Iterator[str]:
    last: dict[str, int] = {}
    for ledger, sequence, request_id in committed_requests(path):
        if sequence <= last.get(ledger, -1):
            yield request_id
        last[ledger] = sequence


def _backward_numbers(done: Iterable[Work]) -> Iterator[str]:
    last: dict[int, int] = defaultdict(lambda: -1)
    for work in done:
        if work.number <= last[work.writer]:
            yield work.request_id
        last[work.writer] = work.number


def _mistold(told: dict[str, Told], versions: dict[str, int]) -> Iterator[str]:
    for request_id, heard in told.items():
        refused = Work.of(request_id).kind is Kind.BAD
        wanted = Told(version=versions.get(request_id), error=_REFUSED if refused else None)
        if heard != wanted:
            yield f"{request_id}: {heard} and not {wanted}"
    for request_id in versions.keys() - told.keys():
        yield f"{request_id}: nothing, and it is committed"


def _rows(path: Path) -> list[Row]:
    table = DeltaTable(str(path)).to_pyarrow_table(columns=["key", "writer", "number"])
    return sorted(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _difference(found: list[Row], wanted: list[Row]) -> list[str]:
    if found == wanted:
        return []
    there, due = Counter(found), Counter(wanted)
    return [
        *(f"unexpected {row}" for row in (there - due).elements()),
        *(f"missing {row}" for row in (due - there).elements()),
    ]
