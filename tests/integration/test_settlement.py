"""Who may say what came of a request, and what becomes of its staged file."""

from __future__ import annotations

import pyarrow as pa
import pytest

from deltaq.client import Client, SchemaMismatch
from deltaq.tasks import keys
from deltaq.tasks.errors import LeaseLost
from deltaq.tasks.request import Lane
from deltaq.tasks.settings import Settings
from deltaq.worker.groups import CommitGroup, Waiting
from deltaq.worker.lease import Leases
from deltaq.worker.outcomes import Settlement
from deltaq.worker.remover import Remover
from tests.support.player import Player
from tests.support.sweeping import make_sweeper

ERROR = SchemaMismatch("no such column")


def test_a_late_worker_does_not_bury_what_another_may_have_committed(
    settings: Settings, client: Client, player: Player
) -> None:
    future = client.append("t", pa.table({"n": [1]}))
    (request,) = player.waiting("t")
    group = CommitGroup(
        table="t", lane=Lane.LIVE, app_id="a", members=(Waiting(sequence=1, request=request),)
    )
    leases = Leases(player.client, settings, holder="late")
    with leases.take("t") as lease:
        assert lease is not None
        player.client.delete(keys.lease("t"))  # its time is over
        player.lease("t")  # by another worker

        with pytest.raises(LeaseLost):
            Settlement(player.inbox, player.staging, Remover(player.staging)).fail(
                lease, group, ERROR, attempt=1
            )

    leases.close()
    assert player.staging.request_path("t", future.request_id).exists()
    assert not player.staging.dead_path("t", future.request_id).with_suffix(".json").exists()


def test_the_sweeper_buries_what_a_worker_killed_after_telling_could_not(
    settings: Settings, client: Client, player: Player
) -> None:
    future = client.append("t", pa.table({"n": [1]}))
    staged = player.staging.request_path("t", future.request_id)
    content = staged.read_bytes()
    player.commit_all("t", error=ERROR)
    staged.write_bytes(content)  # which the player has removed, as no worker would

    assert make_sweeper(player.client, settings).clean(older_than=0) == 1
    assert not staged.exists()
    grave = player.staging.dead_path("t", future.request_id)
    assert grave.read_bytes() == content
    assert b"no such column" in grave.with_suffix(".json").read_bytes()
