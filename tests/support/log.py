"""What a table's Delta log says of requests, read without deltaq's own reader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from deltaq.tasks.location import Location


def actions(table: Location) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield every action with its version, in order of versions."""
    entries: list[Location] = [*(table / "_delta_log").glob("*.json")]
    for entry in sorted(entries, key=lambda e: e.name):
        if entry.stem.isdigit():
            for line in entry.read_text().splitlines():
                yield int(entry.stem), json.loads(line)


def committed_requests(table: Location, *, maintenance: bool = True) -> list[tuple[str, int, str]]:
    """List (ledger, sequence, request id) of requests, as below, in the order of their commits."""
    return [
        (note["deltaq"], sequence, request_id)
        for _, note in _notes(table, maintenance=maintenance)
        for sequence, request_id in note["requests"]
    ]


def live_requests(table: Location) -> list[str]:
    """List the ids of those in the live lane: not of the maintenance that nobody asked for."""
    found = committed_requests(table)
    return [request_id for ledger, _, request_id in found if ledger.endswith("/live")]


def committed_versions(table: Location, *, maintenance: bool = True) -> list[tuple[str, int]]:
    """List (request id, version) of all requests, or all but maintenance, in order of commits."""
    return [
        (request_id, version)
        for version, note in _notes(table, maintenance=maintenance)
        for _, request_id in note["requests"]
    ]


def _notes(table: Location, *, maintenance: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    for version, action in actions(table):
        written = action.get("commitInfo", {}).get("userMetadata")
        if written and "deltaq" in written:
            note = json.loads(written)
            if maintenance or not note["deltaq"].endswith("/maintenance"):
                yield version, note


def ledgers(table: Location) -> list[tuple[int, str, int]]:
    """List (version, appId, sequence) of all transaction identifiers in the log."""
    return [
        (version, action["txn"]["appId"], action["txn"]["version"])
        for version, action in actions(table)
        if "txn" in action
    ]
