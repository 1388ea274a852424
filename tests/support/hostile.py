"""Input that nobody sends who means well."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from deltaq.tasks import keys
from deltaq.tasks.connection import Scripts
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.request import Lane, Request
from deltaq.tasks.staging import StagingArea
from deltaq.worker import System
from tests.support.waiting import wait_until

HUGE = 2**63
TRICKS = [
    *("../../../tmp/evil", "/tmp/evil", "..", ".", "", "a/../../b", "a\\b", "a\x00b", "a\nb"),
    *(".deltaq", "_delta_log", "%2e%2e/x", "~root", "{t}", "dq:tables", "x" * 5000, "é", "💣"),
]
#: Any text, and what leads out of a folder or breaks a key.
texts = st.sampled_from(TRICKS) | st.text(max_size=30)
#: What JSON can hold.
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, -1, HUGE, -HUGE, 10**400, 1e308, -0.0]) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def wires(draw: st.DrawFn, good: dict[str, Any]) -> bytes:
    """Requests of which some fields are not what they should be, or that are no JSON at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60))
    body = dict(good)
    for field in draw(st.sets(st.sampled_from([*good, "unheard_of"]), min_size=1, max_size=3)):
        body[field] = draw(values)
    if draw(st.booleans()):
        body.pop(draw(st.sampled_from(sorted(good))), None)
    return json.dumps(body).encode()


_ODD_TYPES = st.sampled_from(
    [
        *(pa.null(), pa.uint64(), pa.float16(), pa.time64("ns"), pa.duration("s"), pa.date64()),
        *(pa.decimal256(70, 3), pa.month_day_nano_interval(), pa.large_binary(), pa.binary(3)),
        *(pa.timestamp("ns", "Asia/Kolkata"), pa.timestamp("s"), pa.string_view(), pa.bool_()),
        *(pa.struct([]), pa.struct([("a", pa.null())]), pa.map_(pa.int8(), pa.list_(pa.null()))),
        *(pa.list_(pa.duration("us"), 2), pa.dictionary(pa.int8(), pa.string()), pa.int64()),
        pa.run_end_encoded(pa.int32(), pa.int8()),
    ]
)


@st.composite
def frames(draw: st.DrawFn) -> pa.Table:
    """Tables of one null row with any names, any of them twice, and any types of Arrow."""
    names = st.sampled_from("abcd") | st.sampled_from("abcd") | texts
    columns = draw(st.lists(st.tuples(names, _ODD_TYPES), max_size=4))
    schema = pa.schema([pa.field(name, kind) for name, kind in columns])
    arrays = [pa.array([None], kind) for _, kind in columns]
    return pa.Table.from_arrays(arrays, schema=schema)


class Attacker:
    """Puts things into Redis past the client. Its tables must be ones that nobody else uses."""

    def __init__(self, system: System) -> None:
        self.numbers = itertools.count()
        self.redis = system.redis.connect()
        self.lake = system.settings.lake
        self.staging = StagingArea(system.settings.staging_root)
        self._inbox = Inbox(self.redis, system.settings)
        self._scripts = Scripts(self.redis)
        self._system = system

    def enqueue(self, table: str, request_id: str, wire: bytes) -> None:
        """Put anything at all into the inbox of a table, as the request of that id."""
        self._scripts.run(
            "submit",
            [
                keys.request(table, request_id),
                keys.inbox(table, Lane.LIVE),
                keys.seq(table),
                keys.wake(table),
                keys.TABLES,
            ],
            [wire, "digest", Lane.LIVE, table, 1, 10**6, 10**12, "epoch", ""],
        )

    def submit(self, request: Request) -> Outcome:
        """Submit a request whose staged file is there, or not, and wait for its outcome."""
        self._inbox.submit(request)
        self.wait_until_empty(request.table)
        (outcome,) = self._inbox.outcomes([(request.table, request.request_id)])
        assert isinstance(outcome, Outcome)
        return outcome

    def outcome(self, table: str, request_id: str) -> Outcome | None:
        (outcome,) = self._inbox.outcomes([(table, request_id)])
        return outcome if isinstance(outcome, Outcome) else None

    def wait_until_empty(self, table: str) -> None:
        """Have a worker look at a table and wait until nothing is left in its inbox."""
        self.send(keys.COMMIT_TASK, [table], keys.lane_queue(Lane.LIVE))
        inbox = keys.inbox(table, Lane.LIVE)
        wait_until(
            lambda: not self.redis.xlen(inbox),
            within=20,
            saying=lambda: self._system.log.read_text(errors="replace")[-2000:],
        )

    def send(self, task: str, arguments: Any, queue: str) -> None:
        """Send a Celery message by hand."""
        body = json.dumps([arguments, {}, {}])
        self.push(
            queue,
            {
                "body": body,
                "content-encoding": "utf-8",
                "content-type": "application/json",
                "headers": {"task": task, "id": "by-hand", "lang": "py"},
                "properties": {
                    "delivery_mode": 2,
                    "delivery_tag": "by-hand",
                    "delivery_info": {"exchange": "", "routing_key": queue},
                },
            },
        )

    def push(self, queue: str, message: Any) -> None:
        """Put anything at all into a queue of Celery's."""
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.redis.lpush(queue, text)
