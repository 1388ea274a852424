"""What the policy of a table asks for now, and why. Values in, values out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from deltaq.tasks.policy import Policy
from deltaq.tasks.request import Checkpoint, Maintenance, Optimize, Vacuum
from deltaq.worker.maintenance.slicing import TARGET_BYTES, Partition

#: Sizes up to which small files are put together, the smallest with enough to do first: what
#: was compacted before is not written again each time.
TIERS = (1024 * 1024, 16 * 1024 * 1024, TARGET_BYTES)
#: A table that sleeps has at most so many times the files that it needs.
_IDLE_RATIO = 2
#: Commits without a checkpoint that a table may fall asleep with.
SLEEPS_WITH = 10
#: Hours between two vacuums.
_VACUUM_EVERY = 24


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a table is like.

    Attributes:
        tiers: Its partitions, by each size of :data:`TIERS`: small are files of less than half of
            it, for what was put together has more, unless it is all that there is.
        properties: Its properties.
        columns: Names of its columns that do not partition it.
        needs_spark: Native cannot compact it.
        commits_since_checkpoint: Commits that whoever opens it reads one by one.
    """

    tiers: Mapping[int, Sequence[Partition]]
    properties: Mapping[str, str]
    columns: Sequence[str] = ()
    needs_spark: bool = False
    commits_since_checkpoint: int = 0


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Maintenance that a policy asks for.

    Attributes:
        kind: The operation.
        options: Of the request.
        why: What a person reads in the history.
    """

    kind: type[Maintenance]
    why: str
    options: dict[str, Any] = field(default_factory=dict)


def wish_for(
    survey: Survey,
    policy: Policy,
    *,
    idle: bool,
    checkpoints: bool = False,
    now: datetime,
    hours_since: Mapping[str, float],
) -> Wish | None:
    """Choose what a table needs most; None for nothing.

    Args:
        survey: The table.
        policy: Its policy.
        idle: Nobody has written to it for a while.
        checkpoints: They are to be asked for, too: nobody writes them otherwise.
        now: The time.
        hours_since: Hours since the last ``zorder`` and ``vacuum``; infinite if none is known.
    """
    if checkpoints and (wish := _checkpoint(survey, policy, idle=idle)):
        return wish
    if not policy.may_begin(now):
        return None
    return (
        _compaction(survey, policy)
        or _order(survey, policy, hours_since["zorder"])
        or (_idle_compaction(survey, policy) if idle else None)
        or _vacuum(policy, hours_since["vacuum"])
    )


def _checkpoint(survey: Survey, policy: Policy, *, idle: bool) -> Wish | None:
    commits = survey.commits_since_checkpoint
    if commits < (SLEEPS_WITH if idle else policy.checkpoint_commits):
        return None
    return Wish(kind=Checkpoint, why=f"{commits} commits since the last checkpoint")


def _compaction(survey: Survey, policy: Policy) -> Wish | None:
    if not policy.compact_files:
        return None
    for size in TIERS:
        most = max((p.small_files for p in survey.tiers[size]), default=0)
        if most > policy.compact_files:
            return Wish(
                kind=Optimize,
                options={"target_bytes": size, "min_files": policy.compact_files + 1},
                why=f"{most} files in one partition are below {size / (2 << 20):g} MiB, "
                f"of {policy.compact_files} that may be",
            )
    return None


def _idle_compaction(survey: Survey, policy: Policy) -> Wish | None:
    partitions = survey.tiers[TARGET_BYTES]
    files = sum(p.files for p in partitions)
    needed = sum(math.ceil(p.size_bytes / TARGET_BYTES) or 1 for p in partitions)
    if not policy.compact_files or files <= max(policy.compact_files, _IDLE_RATIO * needed):
        return None
    if not any(p.small_files > 1 for p in partitions):
        return None
    return Wish(kind=Optimize, why=f"the table sleeps with {files} files where {needed} would do")


def _order(survey: Survey, policy: Policy, hours: float) -> Wish | None:
    columns = [c for c in policy.zorder if c in survey.columns]
    if not columns or not policy.zorder_hours or hours < policy.zorder_hours:
        return None
    if not any(p.files for p in survey.tiers[TARGET_BYTES]):
        return None
    return Wish(
        kind=Optimize,
        options={"zorder": tuple(columns)},
        why=f"not ordered for {policy.zorder_hours} hours",
    )


def _vacuum(policy: Policy, hours: float) -> Wish | None:
    if not policy.vacuum_hours or hours < _VACUUM_EVERY:
        return None
    return Wish(
        kind=Vacuum,
        options={"retention_hours": policy.vacuum_hours},
        why=f"no vacuum for {_VACUUM_EVERY} hours",
    )
