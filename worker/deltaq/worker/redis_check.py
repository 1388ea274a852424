"""Whether the queue's Redis is set to keep what clients were promised."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import redis

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Durability:
    """How well Redis keeps what it accepted.

    Attributes:
        weak: Each setting under which accepted requests may get lost, with what it should be.
        unchecked: What could not be looked at, and why.
    """

    weak: list[str]
    unchecked: str | None = None


def check_redis(client: redis.Redis) -> None:
    """Log one warning that names every setting under which accepted requests may get lost.

    Nobody is kept from working: a Redis without them may be what its owner wants. What cannot
    be read, because an ACL forbids it or Redis does not answer, is told as information.
    """
    try:
        found = find_weaknesses(client)
    except redis.exceptions.RedisError as exc:
        logger.info("settings of Redis not checked: %s", exc)
        return
    if found.unchecked:
        logger.info("%s", found.unchecked)
    if found.weak:
        logger.warning(
            "Redis may lose accepted requests: %s; set this in redis.conf, or accept that "
            "'deltaq recover' may be needed after a crash",
            "; ".join(found.weak),
        )


def find_weaknesses(client: redis.Redis) -> Durability:
    """Look for the settings under which accepted requests may get lost."""
    weak = _weak_in_info(client)
    try:
        return Durability(weak=[*weak, *_weak_sync(client)])
    except redis.exceptions.ResponseError as exc:  # no permission, or no such command
        refused = f"CONFIG GET was refused: {exc}"
        return Durability(
            weak=weak,
            unchecked=f"appendfsync of Redis not checked, it should be always: {refused}",
        )


def _weak_in_info(client: redis.Redis) -> list[str]:
    facts: Any = client.info()
    weak = []
    if not facts["aof_enabled"]:
        weak.append("appendonly is no and must be yes, or a restart empties the queue")
    policy = facts["maxmemory_policy"]
    if policy != "noeviction":
        weak.append(
            f"maxmemory-policy is {policy} and must be noeviction, or a full Redis throws away "
            "inboxes and leases"
        )
    return weak


def _weak_sync(client: redis.Redis) -> list[str]:
    """Look at ``appendfsync``, which is told by ``CONFIG GET`` alone."""
    settings: Any = client.config_get("append*")  # several names only since Redis 7
    if settings["appendonly"] == "no" or settings["appendfsync"] == "always":
        return []
    return [
        f"appendfsync is {settings['appendfsync']} and should be always, or a crash of its "
        "machine loses the last writes"
    ]
