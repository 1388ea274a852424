"""A lease, when its renewal and its end come at the same time."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from deltaq.tasks.connection import connect
from deltaq.tasks.inbox import LANES
from deltaq.tasks.settings import Settings
from deltaq.worker.lease import Leases
from deltaq.worker.observers import Observer


class Losses(Observer):
    """Notes the leases that were lost."""

    def __init__(self) -> None:
        self.tables: list[str] = []

    def lease_lost(self, table: str) -> None:
        self.tables.append(table)


def test_a_lease_that_was_to_be_renewed_while_it_was_given_back_is_not_lost(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = Losses()
    with (
        connect(settings) as client,
        contextlib.closing(Leases(client, settings, holder="test", observers=losses)) as leases,
    ):
        run = leases._scripts.run

        def run_with_a_renewal_in_between(name: str, keys: list[str], args: list[Any]) -> Any:
            answer = run(name, keys, args)
            if name == "release":
                for lease in leases.held():
                    leases._renew_one(lease)
            return answer

        monkeypatch.setattr(leases._scripts, "run", run_with_a_renewal_in_between)
        with leases.take("t") as lease:
            assert lease is not None
            released, _ = leases.release(lease, lanes=LANES, force=True)

    assert released
    assert not lease.lost.is_set()
    assert losses.tables == []
