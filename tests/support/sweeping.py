"""A sweeper without a worker around it."""

from __future__ import annotations

from collections.abc import Callable

import redis

from deltaq.tasks.inbox import Inbox
from deltaq.tasks.memory import Memory
from deltaq.tasks.request import Lane
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker.backfill.service import Backfills
from deltaq.worker.lake import Lake
from deltaq.worker.recovery import Recovery
from deltaq.worker.sweeper import Sweeper


def make_recovery(client: redis.Redis, settings: Settings) -> Recovery:
    return Recovery(
        Memory(client, settings),
        Inbox(client, settings),
        StagingArea(settings.staging_root),
        Lake(settings.lake),
        settings,
    )


def make_sweeper(
    client: redis.Redis,
    settings: Settings,
    *,
    ring: Callable[[str, Lane], None] = lambda *_: None,
    rung: Callable[[Lane], int] = lambda _: 0,
) -> Sweeper:
    """Make a sweeper that is not started; by default its wake-ups go nowhere."""
    inbox = Inbox(client, settings)
    return Sweeper(
        client,
        inbox,
        StagingArea(settings.staging_root),
        settings,
        ring=ring,
        rung=rung,
        recovery=make_recovery(client, settings),
        backfills=Backfills(client, inbox, settings, worker="sweeper", ring=ring),
    )
