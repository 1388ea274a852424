"""Which waiting requests may share one Delta commit. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING

from deltaq.tasks.request import Append, Lane, Merge, Request
from deltaq.tasks.slices import Slices

if TYPE_CHECKING:  # Redis' client takes half a second to import, which not all who group need
    from deltaq.tasks.entries import Clock


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A request, its sequence in its lane, and when it expires by Redis' clock, if it does."""

    sequence: int
    request: Request
    deadline_ms: int | None = None

    def has_expired(self, clock: Clock) -> bool:
        """Tell whether its time was over before any committer began with it."""
        if self.deadline_ms is None or self.sequence <= clock.claimed:
            return False
        return self.deadline_ms <= clock.now_ms


@dataclass(frozen=True, kw_only=True)
class CommitGroup:
    """Compatible requests of one table and lane, in order; they become one Delta commit.

    The commit moves the ledger ``app_id`` to ``sequence``.

    Attributes:
        table: The table.
        lane: The lane.
        app_id: The ledger.
        members: The requests.
        after: What the ledger was when the group was formed; None if that is not known.
        begun: What earlier slices did, of a request that is done in slices.
        read_versions: Versions of the table that are being read, for a vacuum to keep.
    """

    table: str
    lane: Lane
    app_id: str
    members: tuple[Waiting, ...]
    after: int | None = None
    begun: Slices | None = None
    read_versions: tuple[int, ...] = ()

    def is_late(self, reached: int) -> bool:
        """Tell whether somebody else moved the ledger, which has reached ``reached``."""
        moved = self.after is not None and reached != self.after
        return moved or reached >= self.members[0].sequence

    @property
    def sequence(self) -> int:
        """The last sequence in the group."""
        return self.members[-1].sequence

    @property
    def first(self) -> Request:
        """The first request; the others have the same operation and options."""
        return self.members[0].request

    @property
    def requests(self) -> tuple[Request, ...]:
        """The requests in order."""
        return tuple(m.request for m in self.members)

    def halves(self) -> Iterator[CommitGroup]:
        """Split a group of two or more, to find the member that makes it fail."""
        middle = len(self.members) // 2
        yield replace(self, members=self.members[:middle])
        yield replace(self, members=self.members[middle:])


#: A request that was being applied in so many crashes is poison.
POISONOUS = 3


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What happened so far to the requests of a lane that a committer has claimed.

    Attributes:
        upto: The last sequence that was ever claimed.
        began: First sequence of the last claim.
        attempt: Which try of its requests the last claim was.
        crashes: In how many claims a worker, or an engine, died of what was claimed last.
        cause: What is known of the last crash.
    """

    upto: int = 0
    began: int = 0
    attempt: int = 0
    crashes: int = 0
    cause: str = ""

    def made(self, members: Sequence[Waiting], attempt: int) -> Claims:
        """Return what is known once ``members`` are claimed."""
        first, last = members[0].sequence, members[-1].sequence
        known = self if self.concern(members[0]) else Claims()
        return replace(known, upto=max(self.upto, last), began=first, attempt=attempt)

    def concern(self, head: Waiting) -> bool:
        """Tell whether they are about the request at the head of the lane."""
        found_out = self.crashes >= POISONOUS and head.sequence > self.began
        return head.sequence <= self.upto and not found_out

    def poison(self, head: Waiting) -> bool:
        """Tell whether the request at the head was being applied in too many crashes."""
        return self.crashes >= POISONOUS and head.sequence == self.began


def suspects(waiting: Sequence[Waiting], claims: Claims) -> Sequence[Waiting]:
    """Leave only those waiting requests that may be tried together.

    What was tried before is tried again before anything joins it. After one crash, which is
    mostly a deploy, it is tried as a whole; after two its requests are tried one by one.
    """
    head = waiting[0]
    if not claims.concern(head):
        return waiting
    if claims.crashes >= POISONOUS - 1:
        return waiting[:1]
    return [w for w in waiting if w.sequence <= claims.upto]


def split_expired(waiting: Sequence[Waiting], clock: Clock) -> tuple[list[Waiting], list[Waiting]]:
    """Split off those at the head that have expired, and leave out all from the next such one.

    Returns:
        The expired ones, and what may be planned.
    """
    expired = list(takewhile(lambda w: w.has_expired(clock), waiting))
    rest = waiting[len(expired) :]
    return expired, list(takewhile(lambda w: not w.has_expired(clock), rest))


def plan_group(
    waiting: Sequence[Waiting], *, max_requests: int, max_bytes: int
) -> tuple[Waiting, ...]:
    """Take the longest run of requests, from the head, that may become one commit.

    Args:
        waiting: At least one request, in order of sequence.
        max_requests: Limit of requests in a commit.
        max_bytes: Limit of staged bytes in a commit; a single larger request goes alone.
    """
    head = waiting[0]
    group = [head]
    size_bytes = head.request.size_bytes
    for item in waiting[1:max_requests]:
        size_bytes += item.request.size_bytes
        if size_bytes > max_bytes or not may_follow(head.request, item.request):
            break
        group.append(item)
    return tuple(group)


def may_follow(head: Request, other: Request) -> bool:
    """Tell whether ``other`` may be in the group that ``head`` begins.

    Appends may follow appends, and merges of whole rows by the same keys may follow each
    other. Anything whose result could differ from that of one after another may not.
    """
    match head, other:
        case Append(), Append():
            alike = True
        case Merge(), Merge():
            alike = _writes_whole_rows(head) and (head.keys, head.insert, head.update) == (
                other.keys,
                other.insert,
                other.update,
            )
            alike = alike and other.delete_when is None
        case _:
            return False
    if head.schema_mode or other.schema_mode:  # it may change the schema
        return False
    return alike and (head.shape, head.partition_by, head.engine) == (
        other.shape,
        other.partition_by,
        other.engine,
    )


def _writes_whole_rows(merge: Merge) -> bool:
    return merge.update is None and merge.delete_when is None
