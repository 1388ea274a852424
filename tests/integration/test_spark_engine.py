"""The Spark engine on real Delta tables: what it commits, and what it refuses."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from deltaq.tasks.errors import (
    CommitConflict,
    ConstraintViolated,
    DeltaqError,
    DuplicateKeys,
    EngineDied,
    EngineUnavailable,
    InvalidExpression,
    InvalidFrame,
    InvalidRequest,
    LeaseLost,
    SchemaMismatch,
    StagedDataMissing,
    TableNotFound,
    VersionNotFound,
)
from deltaq.tasks.location import Location
from deltaq.tasks.request import Append, Delete
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines import Commit, RowCounts
from deltaq.worker.engines.kernel import Kernel, Snapshot
from deltaq.worker.engines.spark import SparkEngine
from deltaq.worker.engines.urls import spark_url
from deltaq.worker.groups import CommitGroup
from deltaq.worker.lake import Lake
from deltaq.worker.warm import WarmSpark
from tests.support.applying import LEDGER, Applier
from tests.support.log import committed_requests, ledgers
from tests.support.requests import make_append
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

#: Takes Spark a minute on a thousand rows.
SLOW = "aggregate(sequence(0, 2000000), 0L, (sum, x) -> sum + hash(x, k)) = 5"


def frame(keys: list[Any], values: list[Any], **columns: list[Any]) -> pa.Table:
    return pa.table({"k": pa.array(keys, pa.int64()), "v": values, **columns})


@pytest.fixture
def engine(warm_spark: WarmSpark, place: Location) -> SparkEngine:
    warm_spark.session(timeout=240)
    return SparkEngine(warm_spark, Lake(place), StagingArea(place / ".deltaq"))


@pytest.fixture
def prices(engine: SparkEngine, place: Location) -> Applier:
    return Applier(engine, place)


def sql(warm: WarmSpark, statement: str) -> None:
    warm.session(timeout=60).sql(statement)


def test_the_first_append_creates_the_table(prices: Applier) -> None:
    assert prices.ledger() == -1

    commit = prices.append(frame([1, 2], ["a", "b"]))

    assert commit == Commit(version=0, counts=(RowCounts(inserted=2),))
    assert prices.rows("k", "v") == [(1, "a"), (2, "b")]
    assert prices.ledger() == 0


def test_appends_of_a_group_become_one_commit_and_one_file(prices: Applier) -> None:
    members = [prices.stage(Append, frame([n], [f"v{n}"])) for n in range(20)]

    commit = prices.apply(*members)

    assert commit == Commit(version=0, counts=(RowCounts(inserted=1),) * 20)
    assert prices.read()["k"].to_pylist() == list(range(20))
    assert len(list(prices.path.glob("*.parquet"))) == 1
    assert list(prices.staging.work.iterdir()) == []


def test_data_ledger_and_note_are_in_the_same_commit(prices: Applier) -> None:
    first = prices.stage(Append, frame([1], ["a"]))
    others = [prices.stage(Append, frame([n], ["b"])) for n in (2, 3)]

    prices.apply(first)
    prices.apply(*others)

    assert ledgers(prices.path) == [(0, LEDGER, 0), (1, LEDGER, 2)]
    assert committed_requests(prices.path) == [
        (LEDGER, sequence, request.request_id) for sequence, request in enumerate([first, *others])
    ]


def test_values_are_cast_to_the_tables_types_when_nothing_is_lost(prices: Applier) -> None:
    prices.append(frame([1], ["a"]))

    prices.append(pa.table({"v": ["b"], "k": pa.array([2], pa.int32())}))
    prices.append(pa.table({"k": [3.0], "v": pa.array(["c"], pa.large_string())}))
    prices.append(pa.table({"k": [4], "v": pa.array([None], pa.null())}))

    assert prices.rows("k", "v") == [(1, "a"), (2, "b"), (3, "c"), (4, None)]


def test_an_overwrite_replaces_all_rows(prices: Applier) -> None:
    prices.append(frame([1, 2], ["a", "b"]))

    commit = prices.overwrite(frame([3], ["c"]))

    assert commit.counts[0].inserted == 1
    assert prices.rows("k") == [(3,)]
    assert prices.ledger() == 1


def test_an_overwrite_with_where_replaces_the_rows_it_names(prices: Applier) -> None:
    prices.append(frame([1, 2, 3], ["a", "b", "c"]))

    commit = prices.overwrite(frame([2], ["B"]), where="k >= 2")

    assert commit.counts == (RowCounts(inserted=1, deleted=2),)
    assert prices.rows("k", "v") == [(1, "a"), (2, "B")]


def test_an_overwrite_may_create_the_table(prices: Applier) -> None:
    prices.overwrite(frame([2], ["b"]), where="k = 2")

    assert prices.rows("k") == [(2,)]
    assert prices.ledger() == 0


def test_a_merge_updates_matched_rows_and_inserts_the_others(prices: Applier) -> None:
    prices.append(frame([1, 2], ["a", "b"]))

    commit = prices.merge(frame([2, 3], ["B", "C"]), keys=("k",))

    assert commit.counts == (RowCounts(inserted=1, updated=1, deleted=0),)
    assert prices.rows("k", "v") == [(1, "a"), (2, "B"), (3, "C")]
    assert ledgers(prices.path)[-1] == (1, LEDGER, 1)


def test_a_merge_may_update_some_columns_and_insert_nothing(prices: Applier) -> None:
    prices.append(frame([1, 2], ["a", "b"], w=["x", "y"]))

    commit = prices.merge(frame([2, 3], ["B", "C"]), keys=("k",), update=("v",), insert=False)

    assert commit.counts == (RowCounts(inserted=0, updated=1, deleted=0),)
    assert prices.rows("k", "v", "w") == [(1, "a", "x"), (2, "B", "y")]


def test_a_merge_may_only_insert_and_fills_missing_columns_with_null(prices: Applier) -> None:
    prices.append(frame([1], ["a"], w=["x"]))

    prices.merge(frame([1, 2], ["A", "B"]), keys=("k",), update=())

    assert prices.rows("k", "v", "w") == [(1, "a", "x"), (2, "B", None)]


def test_a_merge_deletes_by_a_staged_column_that_is_not_written(prices: Applier) -> None:
    prices.append(frame([1, 2], ["a", "b"]))
    feed = frame([1, 2, 3, 4], ["A", "B", "C", "D"], op=["D", "U", "I", "D"])

    commit = prices.merge(feed, keys=("k",), delete_when="op = 'D'")

    assert commit.counts == (RowCounts(inserted=1, updated=1, deleted=1),)
    assert prices.rows("k", "v") == [(2, "B"), (3, "C")]
    assert prices.read().column_names == ["k", "v"]


def test_delete_when_means_the_staged_value_of_a_column_that_both_have(prices: Applier) -> None:
    prices.append(frame([1, 2], ["gone", "b"]))

    prices.merge(frame([1, 2], ["a", "gone"]), keys=("k",), delete_when="v = 'gone'")

    assert prices.rows("k", "v") == [(1, "a")]


def test_a_merge_may_create_the_table(prices: Applier) -> None:
    commit = prices.merge(frame([1, 2], ["a", "b"]), keys=("k",), delete_when="v = 'b'")

    assert commit == Commit(version=0, counts=(RowCounts(inserted=1, updated=0, deleted=0),))
    assert prices.rows("k", "v") == [(1, "a")]


def test_null_keys_match_nothing(prices: Applier) -> None:
    prices.append(frame([None], ["a"]))

    prices.merge(frame([None, None], ["b", "c"]), keys=("k",))

    assert prices.rows("v") == [("a",), ("b",), ("c",)]


def test_a_delete_removes_rows(prices: Applier) -> None:
    prices.append(frame([1, 2, 3], ["a", "b", None]))

    commit = prices.delete("v = 'b'")

    assert commit.counts == (RowCounts(deleted=1),)
    assert prices.rows("k") == [(1,), (3,)]


@pytest.mark.parametrize(
    "nothing",
    [
        lambda t: t.delete("k = 99"),
        lambda t: t.append(frame([], pa.array([], pa.string()))),
        lambda t: t.merge(frame([99], ["z"]), keys=("k",), insert=False),
        lambda t: t.overwrite(frame([], pa.array([], pa.string())), where="k = 99"),
    ],
    ids=["delete", "append", "merge", "overwrite"],
)
def test_a_request_that_changes_nothing_moves_the_ledger(
    prices: Applier, nothing: Callable[[Applier], Commit]
) -> None:
    prices.append(frame([1], ["a"]))

    commit = nothing(prices)

    assert commit.version == 1
    assert ledgers(prices.path) == [(0, LEDGER, 0), (1, LEDGER, 1)]
    assert committed_requests(prices.path)[1][:2] == (LEDGER, 1)
    assert prices.rows("k") == [(1,)]


def test_a_group_at_or_below_the_ledger_is_refused(prices: Applier) -> None:
    request = prices.stage(Append, frame([1], ["a"]))
    prices.apply(request)

    with pytest.raises(CommitConflict, match="sequence 0 was committed by another worker"):
        prices.apply(request, first=0)

    assert prices.rows("k") == [(1,)]


def test_a_late_group_that_ends_higher_than_the_ledger_is_refused(
    warm_spark: WarmSpark, prices: Applier, place: Location
) -> None:
    # Delta's own check passes it, for 2 > 1; see engines/transaction.py.
    class Late(SparkEngine):
        """Another commit gets in after it looked at the table."""

        def _snapshot(self, kernel: Kernel, group: CommitGroup) -> Snapshot | None:
            found = super()._snapshot(kernel, group)
            prices.apply(*requests[:2], first=0)
            return found

    requests = [prices.stage(Append, frame([n], ["a"])) for n in range(3)]
    late = Late(warm_spark, Lake(place), prices.staging)

    with pytest.raises(CommitConflict, match="sequence 1 was committed by another worker"):
        late.apply(prices.group(*requests, first=0))

    assert prices.rows("k") == [(0,), (1,)]
    assert ledgers(prices.path) == [(0, LEDGER, 1)]


def test_of_two_engines_that_commit_the_same_requests_one_wins(
    warm_spark: WarmSpark, prices: Applier, place: Location
) -> None:
    engines = [SparkEngine(warm_spark, Lake(place), prices.staging) for _ in range(2)]
    prices.append(frame([0], ["a"]))
    for first in (1, 3, 5):
        requests = [prices.stage(Append, frame([first + n], ["a"])) for n in range(2)]
        groups = [prices.group(*requests, first=first), prices.group(*requests[:1], first=first)]
        together = threading.Barrier(2)

        def commit(engine: SparkEngine, group: CommitGroup, together: Any = together) -> bool:
            together.wait()
            try:
                engine.apply(group)
            except CommitConflict:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(commit, engines, groups)) == [False, True]
        if prices.ledger() == first:
            prices.apply(requests[1], first=first + 1)

    assert prices.rows("k") == [(n,) for n in range(7)]


def test_partitions_are_those_of_the_first_write(prices: Applier) -> None:
    prices.append(frame([1, 2], ["a", "b c"]), partition_by=("v",))

    prices.append(frame([3], ["a"]))
    prices.append(frame([4], ["a"]), partition_by=("v",))
    with pytest.raises(SchemaMismatch, match=r"partitioned by \['v'\], not by \['k'\]"):
        prices.append(frame([5], ["a"]), partition_by=("k",))

    assert prices.rows("k", "v") == [(1, "a"), (2, "b c"), (3, "a"), (4, "a")]
    assert prices.engine.detail("prices")["partition_by"] == ["v"]


@pytest.mark.parametrize(
    ("partition_by", "said"),
    [(("nope",), "'nope' is not in the frame"), (("k", "v"), "at least one column")],
)
def test_partitions_that_cannot_be_are_refused(
    prices: Applier, partition_by: tuple[str, ...], said: str
) -> None:
    with pytest.raises(InvalidFrame, match=said):
        prices.append(frame([1], ["a"]), partition_by=partition_by)

    assert not prices.lake.exists("prices")


EVERY_TYPE = pa.table(
    {
        "int8": pa.array([1, None], pa.int8()),
        "int16": pa.array([-300, None], pa.int16()),
        "int32": pa.array([70_000, None], pa.int32()),
        "int64": pa.array([2**60, None], pa.int64()),
        "float": pa.array([1.5, None], pa.float32()),
        "double": pa.array([0.1, None], pa.float64()),
        "bool": pa.array([True, None]),
        "string": pa.array(["äé", None]),
        "binary": pa.array([b"\x00\xff", None]),
        "date": pa.array([date(1582, 10, 20), None]),
        "decimal": pa.array([Decimal("12345678901234567890.12"), None], pa.decimal128(38, 2)),
        "timestamp": pa.array(
            [datetime(2900, 1, 1, 1, 2, 3, 456789, tzinfo=UTC), None], pa.timestamp("us", "UTC")
        ),
        "timestamp_ntz": pa.array([datetime(1900, 1, 1, 12), None], pa.timestamp("us")),
        "list": pa.array([[1, None], None], pa.list_(pa.field("element", pa.int64()))),
        "struct": pa.array([{"a": 1, "b": "x"}, None]),
        "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
    }
)


def test_every_type_comes_back_as_it_went_in(prices: Applier) -> None:
    prices.append(EVERY_TYPE)
    prices.append(EVERY_TYPE.slice(0, 1))

    found = prices.read(version=0)

    assert found.to_pylist() == EVERY_TYPE.to_pylist()
    assert prices.read().num_rows == 3
    kept = {name: str(found.schema.field(name).type) for name in EVERY_TYPE.column_names}
    assert kept["timestamp"] == "timestamp[us, tz=UTC]"
    assert kept["timestamp_ntz"] == "timestamp[us]"
    assert kept["decimal"] == "decimal128(38, 2)"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (pa.array(["a", "b"]).dictionary_encode(), "string"),
        (pa.array(["a", "b"], pa.large_string()), "string"),
        (pa.array([b"ab", b"cd"], pa.binary(2)), "binary"),
        (pa.array([0, 86_400_000], pa.date64()), "date"),
        (pa.array([1_000, 2_000], pa.timestamp("ns")), "timestamp_ntz"),
        (pa.array([1, 2], pa.timestamp("ms", "Europe/Berlin")), "timestamp"),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_encodings_become_the_types_that_they_stand_for(
    prices: Applier, given: pa.Array, kept: str
) -> None:
    prices.append(pa.table({"x": given}))
    prices.append(pa.table({"x": given}))

    assert prices.engine.detail("prices")["schema"][0]["type"] == kept
    assert prices.read().num_rows == 4


def test_a_read_returns_the_columns_and_rows_asked_for(prices: Applier) -> None:
    prices.append(frame([1, 2, 3], ["a", "b", "c"]))

    assert prices.read(columns=("v",), where="k > 1").to_pydict() == {"v": ["b", "c"]}
    assert prices.read(limit=2).num_rows == 2
    assert prices.read(where="k > 100").column_names == ["k", "v"]


def test_a_read_goes_back_to_a_version_or_a_time(prices: Applier) -> None:
    prices.append(frame([1], ["a"]))
    between = datetime.now(UTC)
    wait_until(lambda: datetime.now(UTC).timestamp() > between.timestamp() + 0.01)
    prices.append(frame([2], ["b"]))

    assert prices.read_version(version=0)[1].num_rows == 1
    assert prices.read_version(timestamp=between.isoformat())[0] == 0
    assert prices.read_version(timestamp="2999-01-01")[0] == 1
    assert prices.read_version() == (1, prices.read())


@pytest.mark.parametrize(
    ("query", "error", "said"),
    [
        ({"version": 7}, VersionNotFound, "version 7"),
        ({"timestamp": "2001-01-01T00:00:00Z"}, VersionNotFound, "its log begins later"),
        ({"timestamp": "yesterday"}, InvalidRequest, "ISO 8601"),
        ({"columns": ("kk",)}, SchemaMismatch, r"no column 'kk' \(did you mean 'k'"),
        ({"where": "kk = 1"}, InvalidExpression, r"no column 'kk' \(did you mean 'k'"),
        ({"where": "k = = 1"}, InvalidExpression, "cannot be parsed"),
    ],
)
def test_a_read_that_cannot_be_is_refused(
    prices: Applier, query: dict[str, Any], error: type[DeltaqError], said: str
) -> None:
    prices.append(frame([1], ["a"]))

    with pytest.raises(error, match=said):
        prices.read(**query)


def test_what_asks_for_a_table_that_is_not_there_is_told(prices: Applier) -> None:
    asking: list[Callable[[], Any]] = [
        lambda: prices.read(),
        lambda: prices.engine.history("prices", 5),
        lambda: prices.engine.detail("prices"),
        lambda: prices.delete("k = 1"),
        lambda: prices.merge(frame([1], ["a"]), keys=("k",), insert=False),
    ]
    for ask in asking:
        with pytest.raises(TableNotFound, match="there is no table prices"):
            ask()


@pytest.mark.parametrize(
    ("request_it", "error", "said"),
    [
        (lambda t: t.append(frame([1], ["a"], x=[1])), SchemaMismatch, "column 'x' is not in it"),
        (lambda t: t.append(pa.table({"k": ["1"]})), SchemaMismatch, "string does not fit bigint"),
        (lambda t: t.append(pa.table({"k": [1.5]})), SchemaMismatch, "1.5 does not fit bigint"),
        (lambda t: t.merge(pa.table({"v": ["a"]}), keys=("k",)), SchemaMismatch, "key column 'k'"),
        (
            lambda t: t.merge(frame([1, 1, 2], ["a", "b", "c"]), keys=("k",)),
            DuplicateKeys,
            "more than one row with k=1",
        ),
        (
            lambda t: t.merge(pa.table({"k": [1]}), keys=("k",)),
            SchemaMismatch,
            r"lacks 'v'.*update=\[",
        ),
        (
            lambda t: t.merge(frame([1], ["a"]), keys=("k",), update=("vv",)),
            SchemaMismatch,
            "'vv'.*did you mean 'v'",
        ),
        (
            lambda t: t.merge(frame([1], ["a"]), keys=("k",), update=(), insert=False),
            InvalidRequest,
            "neither updates, inserts nor deletes",
        ),
        (
            lambda t: t.merge(frame([1], ["a"]), keys=("k",), delete_when="op = 'D'"),
            InvalidExpression,
            "no column 'op'",
        ),
        (lambda t: t.delete("kk = 1"), InvalidExpression, "did you mean 'k'"),
        (lambda t: t.delete("k IN (SELECT 1)"), InvalidExpression, "subquery"),
        (lambda t: t.delete("k = 'abc'"), InvalidExpression, "'abc'"),
        (lambda t: t.delete("foo(k) = 1"), InvalidExpression, "foo"),
        (
            lambda t: t.overwrite(frame([1], ["a"]), where="k > 5"),
            ConstraintViolated,
            "k > 5",
        ),
        (lambda t: t.apply(make_append()), StagedDataMissing, "is not there"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "code", "request"),
)
def test_a_bad_request_is_refused_and_nothing_is_written(
    prices: Applier,
    request_it: Callable[[Applier], Commit],
    error: type[DeltaqError],
    said: str,
) -> None:
    prices.append(frame([1], ["a"]))

    with pytest.raises(error, match=said) as caught:
        request_it(prices)

    assert "\tat " not in caught.value.message
    assert prices.ledger() == 0
    assert prices.rows("k", "v") == [(1, "a")]


def test_a_new_table_is_not_made_of_rows_outside_where(prices: Applier) -> None:
    with pytest.raises(ConstraintViolated, match="k > 5"):
        prices.overwrite(frame([1], ["a"]), where="k > 5")

    assert not prices.lake.exists("prices")


def test_rows_that_break_a_constraint_are_refused(warm_spark: WarmSpark, prices: Applier) -> None:
    table = f"delta.`{spark_url(prices.path)}`"
    sql(warm_spark, f"CREATE TABLE {table} (k BIGINT NOT NULL, v STRING) USING delta")
    with pytest.raises(ConstraintViolated, match="column 'k' is null"):
        prices.append(frame([None], ["a"]))
    sql(warm_spark, f"ALTER TABLE {table} ADD CONSTRAINT positive CHECK (k > 0)")
    with pytest.raises(ConstraintViolated, match=r"positive \(k > 0\)"):
        prices.merge(frame([-1], ["a"]), keys=("k",))

    prices.append(frame([1], ["a"]))

    assert prices.rows("k") == [(1,)]


def test_generated_and_identity_columns_are_filled_by_spark(
    warm_spark: WarmSpark, prices: Applier
) -> None:
    sql(
        warm_spark,
        f"CREATE TABLE delta.`{spark_url(prices.path)}` (k BIGINT, v STRING, "
        "twice BIGINT GENERATED ALWAYS AS (k * 2), "
        "id BIGINT GENERATED ALWAYS AS IDENTITY) USING delta",
    )

    prices.append(frame([1], ["a"]))
    prices.merge(frame([2], ["b"]), keys=("k",), update=("v",))
    prices.delete("k = 99")

    assert prices.rows("k", "twice") == [(1, 2), (2, 4)]
    assert sorted(prices.read()["id"].to_pylist()) != [None, None]
    assert prices.ledger() == 2


def test_history_and_detail_describe_the_table(prices: Applier) -> None:
    prices.append(frame([1], ["a"]))
    prices.delete("k = 1")

    history = prices.engine.history("prices", 1)
    detail = prices.engine.detail("prices")

    assert history.select(["version", "operation"]).to_pylist() == [
        {"version": 1, "operation": "DELETE"}
    ]
    assert detail["version"] == 1
    assert detail["schema"][0] == {"name": "k", "type": "bigint", "nullable": True}


def test_an_interrupted_group_commits_nothing(engine: SparkEngine, prices: Applier) -> None:
    prices.append(frame(list(range(1000)), ["a"] * 1000))
    group = prices.group(prices.stage(Delete, where=SLOW))
    with ThreadPoolExecutor(1) as pool:
        applying = pool.submit(engine.apply, group)

        def interrupted() -> bool:
            engine.interrupt(group)
            return applying.done()

        wait_until(interrupted, within=60)

    assert isinstance(applying.exception(), LeaseLost)
    assert prices.ledger() == 0
    assert prices.append(frame([5], ["b"])).version == 1


@pytest.mark.slow
def test_the_engine_goes_on_in_a_new_jvm_when_one_is_killed_while_it_commits(
    warm_spark: WarmSpark, engine: SparkEngine, prices: Applier
) -> None:
    prices.append(frame(list(range(1000)), ["a"] * 1000))
    killed = warm_spark.jvm_pid
    assert killed is not None
    with ThreadPoolExecutor(1) as pool:
        applying: Future[Commit] = pool.submit(
            engine.apply, prices.group(prices.stage(Delete, where=SLOW))
        )
        session = warm_spark.session(timeout=60)
        tracker = session.sparkContext.statusTracker()
        wait_until(lambda: tracker.getActiveJobsIds() or applying.done(), within=30)
        os.kill(killed, signal.SIGKILL)

    assert isinstance(applying.exception(), EngineDied)
    with pytest.raises(EngineUnavailable, match="another one is being started"):
        prices.ledger()
    warm_spark.session(timeout=120)
    assert prices.ledger() == 0
    assert prices.merge(frame([1], ["b"]), keys=("k",)).version == 1
