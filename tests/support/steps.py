"""The moments between two durable facts, and how a process is made to stop at one of them.

Production code knows nothing of this: :func:`install` puts a wrapper around the function named
here, in a process that a test has started for it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

#: Called with the step and the table when a thread comes to the step; False, before a
#: function, leaves the function out.
Reached = Callable[["Step", str], bool]


class Step(StrEnum):
    """A moment on the way of a request, first the client's, then the worker's."""

    STAGING = "staging"  # nothing has happened yet
    STAGED = "staged"  # the file is synced, Redis knows nothing
    SUBMITTED = "submitted"  # in the inbox, no wake-up sent
    RUNG = "rung"  # the wake-up is sent

    WOKEN = "woken"  # the wake-up is taken from the broker, nothing else has happened
    LEASED = "leased"
    LEDGER_READ = "ledger_read"
    CLAIMED = "claimed"  # declared in Redis as about to be applied
    BEFORE_COMMIT = "before_commit"  # the fence was looked at; with Spark, data files are written
    LOGGED = "logged"  # in the table's log, not yet synced
    COMMITTED = "committed"  # in the table, durable, not acknowledged
    ACKNOWLEDGED = "acknowledged"  # the caller is told, the staged files are there
    REMOVED = "removed"  # the staged files are gone, or about to be
    REFUSED = "refused"  # the engine cannot do it, nobody knows
    FAILED = "failed"  # the caller is told that it failed, the file is no dead letter yet
    RELEASED = "released"  # the lease is given back


SUBMIT_STEPS = (Step.STAGING, Step.STAGED, Step.SUBMITTED, Step.RUNG)
COMMIT_STEPS = tuple(step for step in Step if step not in SUBMIT_STEPS)


@dataclass(frozen=True, kw_only=True)
class Hook:
    """A function of production code at whose begin or end a step is."""

    module: str
    attribute: str
    when: Literal["before", "after"]
    #: Finds the table's name in the function's arguments.
    table: Callable[..., str]

    def owner(self) -> tuple[Any, str]:
        """Find the module or class that has the function, and the function's name in it."""
        *path, name = self.attribute.split(".")
        return functools.reduce(getattr, path, importlib.import_module(self.module)), name


def _hook(
    place: str, when: Literal["before", "after"], table: Callable[..., str]
) -> tuple[Hook, ...]:
    module, _, attribute = place.partition(":")
    return (Hook(module=f"deltaq.{module}", attribute=attribute, when=when, table=table),)


def _second(_first: Any, table: str, *_: Any, **__: Any) -> str:
    return table


#: Where each step is; some are at one place for each engine.
HOOKS: dict[Step, tuple[Hook, ...]] = {
    Step.STAGING: _hook(
        "client.async_core:stage", "before", lambda _, draft, *__, **___: draft.table
    ),
    Step.STAGED: _hook(
        "client.async_core:stage", "after", lambda _, draft, *__, **___: draft.table
    ),
    Step.SUBMITTED: _hook(
        "tasks.inbox:Inbox.submit", "after", lambda _, request, **__: request.table
    ),
    Step.RUNG: _hook("client.sender:Sender.ring", "after", _second),
    Step.WOKEN: _hook("worker.committer:Committer.drain", "before", _second),
    Step.LEASED: _hook(
        "worker.committer:Committer._drain", "before", lambda _, turn: turn.lease.table
    ),
    Step.LEDGER_READ: _hook("worker.router:Router.ledger", "after", _second),
    Step.CLAIMED: _hook("tasks.inbox:Inbox.claim", "after", _second),
    Step.BEFORE_COMMIT: (
        *_hook(
            "worker.engines.native_change:Change.perform",
            "before",
            lambda change: change._group.table,
        ),
        *_hook(
            "worker.engines.transaction:Transactions._prepare",
            "before",
            lambda transactions, _: transactions._current.guarded.group.table,
        ),
    ),
    Step.LOGGED: (
        *_hook("worker.engines.native:sync_commit", "before", lambda path, _: path.name),
        *_hook("worker.engines.spark:sync_commit", "before", lambda path, _: path.name),
    ),
    Step.COMMITTED: _hook("worker.router:Router.apply", "after", lambda _, group: group.table),
    Step.ACKNOWLEDGED: _hook("tasks.inbox:Inbox.acknowledge", "after", _second),
    Step.REMOVED: _hook(
        "worker.outcomes:Settlement.acknowledge", "after", lambda _, lease, *__: lease.table
    ),
    Step.REFUSED: _hook(
        "worker.outcomes:Settlement.fail", "before", lambda _, lease, *__: lease.table
    ),
    Step.FAILED: _hook("worker.outcomes:bury", "before", lambda _, outcome: outcome.table),
    Step.RELEASED: _hook(
        "worker.lease:Leases.release", "after", lambda _, lease, **__: lease.table
    ),
}


def install(steps: tuple[Step, ...], reached: Reached) -> None:
    """Have ``reached`` called whenever this process comes to one of the steps."""
    for step in steps:
        for hook in HOOKS[step]:
            owner, name = hook.owner()
            setattr(owner, name, _wrapped(getattr(owner, name), step, hook, reached))


def _wrapped(
    function: Callable[..., Any], step: Step, hook: Hook, reached: Reached
) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if hook.when == "before":
            goes_on = reached(step, hook.table(*args, **kwargs))
            return function(*args, **kwargs) if goes_on else None
        result = function(*args, **kwargs)
        reached(step, hook.table(*args, **kwargs))
        return result

    return wrapper
