from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import threading
from collections.abc import Callable
from typing import Any

import deltalake.exceptions
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, Schema, write_deltalake
from deltalake.schema import PrimitiveType

from deltaq.client.results import rows_in
from deltaq.tasks.errors import (
    CommitConflict,
    ConstraintViolated,
    DuplicateKeys,
    InvalidExpression,
    InvalidFrame,
    InvalidRequest,
    RequestError,
    SchemaMismatch,
    StagedDataMissing,
    StorageUnavailable,
    TableNotFound,
    VersionNotFound,
)
from deltaq.tasks.location import Location, make_folder, remove_folder
from deltaq.tasks.query import Read
from deltaq.tasks.request import (
    Append,
    Delete,
    Lane,
    Merge,
    Optimize,
    Overwrite,
    Request,
    Vacuum,
    new_request_id,
)
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines import Commit, NotNative, RowCounts
from deltaq.worker.engines import native_errors as errors
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.engines.native_reads import at_version, find_rows, write_rows
from deltaq.worker.groups import CommitGroup, Waiting
from deltaq.worker.lake import Lake
from deltaq.worker.ledger import app_id, committed_in, find_committed, log_entry
from tests.support.log import actions, committed_requests, ledgers
from tests.support.places import on_disk
from tests.support.requests import CLIENT_ID, make_request, stage

LEDGER = app_id("epoch", Lane.LIVE)
UTC = pa.timestamp("us", "UTC")

Rows = list[dict[str, Any]]


class Bench:
    """An engine on an empty lake, and the hands of a committer."""

    def __init__(self, root: Location) -> None:
        self.lake = Lake(root / "lake")
        make_folder(self.lake.root)
        self.staging = StagingArea(root / "staging")
        self.engine = self.new_engine()
        self.sequence = 0

    def new_engine(self) -> NativeEngine:
        return NativeEngine(self.lake, self.staging)

    def wait(
        self, kind: type[Request], rows: pa.Table | None = None, table: str = "t", **fields: Any
    ) -> Waiting:
        self.sequence += 1
        if rows is not None:
            fields["rows"] = rows.num_rows
        request = stage(self.staging, make_request(kind, table, **fields), rows)
        return Waiting(sequence=self.sequence, request=request)

    def group(self, *members: Waiting) -> CommitGroup:
        table = members[0].request.table
        return CommitGroup(table=table, lane=Lane.LIVE, app_id=LEDGER, members=members)

    def apply(self, kind: type[Request], rows: pa.Table | None = None, **fields: Any) -> Commit:
        return self.engine.apply(self.group(self.wait(kind, rows, **fields)))

    def path(self, table: str = "t") -> Location:
        return self.lake.path(table)

    def rows(self, table: str = "t") -> Rows:
        found = DeltaTable(str(self.path(table))).to_pyarrow_table()
        return sorted_rows(found.to_pylist())

    def read(self, **fields: Any) -> Rows:
        query = Read(request_id=new_request_id(), client_id=CLIENT_ID, table="t", **fields)
        folder = self.staging.new_work_path()
        _, count = self.engine.read(query, folder)
        rows = rows_in(folder)
        assert rows is not None
        assert len(rows) == count
        return sorted_rows(rows.to_pylist())


def sorted_rows(rows: Rows) -> Rows:
    return sorted(rows, key=lambda row: json.dumps(row, default=str, sort_keys=True))


def prices(*rows: tuple[int | None, str | None, float | None]) -> pa.Table:
    ks, names, values = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "k": pa.array(ks, pa.int64()),
            "name": pa.array(names, pa.string()),
            "price": pa.array(values, pa.float64()),
        }
    )


def as_rows(*rows: tuple[int | None, str | None, float | None]) -> Rows:
    return sorted_rows(prices(*rows).to_pylist())


ABC = ((1, "a", 1.0), (2, "b", 2.0), (3, "c", 3.0))


@pytest.fixture(autouse=True)
def _looks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the log before each commit, as a committer does for the first one, in S3 as well."""
    monkeypatch.setattr("deltaq.worker.engines.native._TRUSTED", 0.0)


@pytest.fixture
def bench(place: Location) -> Bench:
    return Bench(place)


@pytest.fixture
def abc(bench: Bench) -> Bench:
    bench.apply(Append, prices(*ABC))
    return bench


def declare(bench: Bench, *fields: Field, **properties: str) -> None:
    DeltaTable.create(str(bench.path()), Schema(list(fields)), configuration=properties)


# --- commits and the ledger


def test_an_append_creates_the_table_with_data_ledger_and_note_in_one_commit(bench: Bench) -> None:
    waiting = bench.wait(Append, prices(*ABC), partition_by=("name",))

    commit = bench.engine.apply(bench.group(waiting))

    assert commit == Commit(version=0, counts=(RowCounts(inserted=3),))
    assert bench.rows() == as_rows(*ABC)
    assert DeltaTable(str(bench.path())).metadata().partition_columns == ["name"]
    assert ledgers(bench.path()) == [(0, LEDGER, 1)]
    assert committed_requests(bench.path()) == [(LEDGER, 1, waiting.request.request_id)]
    assert bench.engine.ledger("t", LEDGER) == 1


def test_a_ledger_is_minus_one_without_a_table_and_for_another_epoch(abc: Bench) -> None:
    assert abc.engine.ledger("nothing", LEDGER) == -1
    assert abc.engine.ledger("t", app_id("other", Lane.LIVE)) == -1


def test_many_appends_become_one_commit_with_one_file_for_each_partition(bench: Bench) -> None:
    members = [
        bench.wait(
            Append, prices((n, "even" if n % 2 == 0 else "odd", 0.0)), partition_by=("name",)
        )
        for n in range(40)
    ]

    commit = bench.engine.apply(bench.group(*members))
    commit = bench.engine.apply(
        bench.group(*(bench.wait(Append, prices((n, "odd", 0.0))) for n in range(40, 60)))
    )

    assert commit.version == 1
    assert commit.counts == (RowCounts(inserted=1),) * 20
    assert len(bench.rows()) == 60
    added = [
        (v, a["add"]["partitionValues"]["name"]) for v, a in actions(bench.path()) if "add" in a
    ]
    assert sorted(added) == [(0, "even"), (0, "odd"), (1, "odd")]
    ids = [m.request.request_id for m in members]
    assert len(find_committed(bench.path(), LEDGER, ids)) == 40


def test_a_group_is_refused_when_the_ledger_has_reached_its_first_member(abc: Bench) -> None:
    first, second = (abc.wait(Append, prices((n, "d", 4.0))) for n in (4, 5))
    abc.engine.apply(abc.group(first))

    for late in (abc.group(first), abc.group(first, second)):
        with pytest.raises(CommitConflict):
            abc.engine.apply(late)

    assert len(abc.rows()) == 4


def test_of_two_engines_that_saw_the_same_version_one_commits(abc: Bench) -> None:
    other = abc.new_engine()
    assert other.ledger("t", LEDGER) == abc.engine.ledger("t", LEDGER)
    group = abc.group(abc.wait(Append, prices((4, "d", 4.0))))

    abc.engine.apply(group)
    with pytest.raises(CommitConflict):
        other.apply(group)

    assert len(abc.rows()) == 4
    assert ledgers(abc.path()) == [(0, LEDGER, 1), (1, LEDGER, 2)]


def test_commits_of_many_threads_to_one_table_are_all_there(bench: Bench) -> None:
    bench.apply(Append, prices())
    groups = [bench.group(bench.wait(Append, prices((n, "x", 0.0)))) for n in range(12)]
    done: list[int] = []

    def commit(group: CommitGroup) -> None:
        with contextlib.suppress(CommitConflict):  # a later sequence was first
            done.append(bench.engine.apply(group).version or 0)

    threads = [threading.Thread(target=commit, args=(g,)) for g in groups]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(bench.rows()) == len(done) == len(set(done))


def test_an_outside_commit_is_seen_before_the_next_one_of_ours(abc: Bench) -> None:
    write_deltalake(str(abc.path()), prices((9, "z", 9.0)), mode="append")

    commit = abc.apply(Append, prices((4, "d", 4.0)))

    assert commit.version == 2
    assert abc.rows() == as_rows(*ABC, (9, "z", 9.0), (4, "d", 4.0))


def test_a_table_that_was_replaced_by_another_is_noticed(abc: Bench) -> None:
    remove_folder(abc.path())
    write_deltalake(str(abc.path()), pa.table({"other": [1]}))

    assert abc.engine.ledger("t", LEDGER) == -1  # as whoever takes the lease asks first
    with pytest.raises(SchemaMismatch):
        abc.apply(Append, prices(*ABC))
    remove_folder(abc.path())
    assert abc.engine.ledger("t", LEDGER) == -1
    assert abc.apply(Append, prices(*ABC)).version == 0


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Delete, {"where": "k > 100"}),
        (Delete, {"where": "false"}),
        (Merge, {"keys": ("k",), "insert": False}),
        (Append, {}),
    ],
)
def test_what_changes_nothing_still_moves_the_ledger(
    abc: Bench, kind: type[Request], fields: dict[str, Any]
) -> None:
    rows = None if kind is Delete else prices() if kind is Append else prices((77, "x", 0.0))

    commit = abc.apply(kind, rows, **fields)

    assert commit.version == 1
    assert ledgers(abc.path())[-1] == (1, LEDGER, 2)
    assert abc.rows() == as_rows(*ABC)
    assert len(committed_requests(abc.path())) == 2


def test_a_missing_staged_file_is_told_and_nothing_is_written(abc: Bench) -> None:
    here, gone = (abc.wait(Append, prices((n, "d", 4.0))) for n in (4, 5))
    abc.staging.request_path("t", gone.request.request_id).unlink()

    with pytest.raises(StagedDataMissing):
        abc.engine.apply(abc.group(here, gone))

    assert DeltaTable(str(abc.path())).version() == 0


# --- fitting


def test_missing_columns_become_null_and_types_are_cast_without_loss(abc: Bench) -> None:
    frame = pa.table({"price": pa.array([4], pa.int32()), "k": pa.array([4], pa.uint8())})

    abc.apply(Append, frame)

    assert abc.rows() == as_rows(*ABC, (4, None, 4.0))


def test_a_value_that_does_not_fit_is_named_and_nothing_is_written(abc: Bench) -> None:
    good = abc.wait(Append, prices((4, "d", 4.0)))
    bad = abc.wait(Append, pa.table({"k": [1.5], "name": ["x"], "price": [0.0]}))

    for group in (abc.group(bad), abc.group(good, bad)):
        with pytest.raises(SchemaMismatch, match=r"column 'k': 1.5 does not fit bigint"):
            abc.engine.apply(group)

    assert DeltaTable(str(abc.path())).version() == 0


@pytest.mark.parametrize("kind", [Append, Overwrite])
def test_a_column_that_the_table_lacks_is_refused(abc: Bench, kind: type[Request]) -> None:
    with pytest.raises(SchemaMismatch, match=r"'prize' is not in it \(did you mean 'price'\?\)"):
        abc.apply(kind, pa.table({"k": [1], "prize": [1.0]}))


def test_other_partitions_than_the_tables_are_refused(bench: Bench) -> None:
    bench.apply(Append, prices(*ABC), partition_by=("name",))

    bench.apply(Append, prices((4, "a", 4.0)), partition_by=("name",))
    for kind in (Append, Overwrite):
        with pytest.raises(SchemaMismatch, match="partitioned by"):
            bench.apply(kind, prices((5, "a", 5.0)), partition_by=("k",))


@pytest.mark.parametrize("columns", [("nmae",), ("k", "name", "price")])
def test_impossible_partitions_of_a_new_table_are_refused(
    bench: Bench, columns: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidFrame, match="partition_by"):
        bench.apply(Append, prices(*ABC), partition_by=columns)
    assert not bench.lake.exists("t")


def test_every_type_comes_back_as_it_went_in(bench: Bench) -> None:
    moment = dt.datetime(2024, 1, 2, 3, 4, 5, 678901)
    rows = pa.table(
        {
            "i8": pa.array([1, None], pa.int8()),
            "flag": [True, None],
            "text": pa.array(["é", None], pa.large_string()),
            "raw": pa.array([b"\x00\xff", None]),
            "amount": pa.array([12345, None], pa.decimal128(38, 18)),
            "day": pa.array([dt.date(2024, 1, 2), None]),
            "ts": pa.array([moment, None], pa.timestamp("ns", "Europe/Amsterdam")),
            "naive": pa.array([moment, None], pa.timestamp("us")),
            "list": [[1, None], None],
            "map": pa.array([[("a", 1.5)], None], pa.map_(pa.string(), pa.float64())),
            "struct": [{"a": 1, "b": {"c": ["x"]}}, None],
        }
    )

    bench.apply(Append, rows)
    bench.apply(Append, rows)

    assert bench.read() == sorted_rows(rows.to_pylist() * 2)
    assert bench.read(where="day = '2024-01-02' and ts > '2024-01-01'", columns=("text",)) == [
        {"text": "é"},
        {"text": "é"},
    ]


# --- overwrite


def test_an_overwrite_replaces_all_rows(abc: Bench) -> None:
    commit = abc.apply(Overwrite, prices((9, "z", 9.0)))

    assert commit.counts == (RowCounts(inserted=1),)
    assert abc.rows() == as_rows((9, "z", 9.0))


def test_an_overwrite_with_where_replaces_only_such_rows(abc: Bench) -> None:
    abc.apply(Overwrite, prices((1, "z", 9.0), (2, "z", 9.0)), where="K <= 2")

    assert abc.rows() == as_rows((1, "z", 9.0), (2, "z", 9.0), (3, "c", 3.0))
    assert abc.engine.ledger("t", LEDGER) == 2


@pytest.mark.parametrize("outside", [(5, "z", 9.0), (None, "z", 9.0)])
@pytest.mark.parametrize("partition_by", [None, ("k",)])
def test_an_overwrite_with_rows_outside_its_where_is_refused(
    bench: Bench, outside: tuple[int | None, str, float], partition_by: tuple[str, ...] | None
) -> None:
    bench.apply(Append, prices(*ABC), partition_by=partition_by)

    with pytest.raises(ConstraintViolated, match="outside where='k <= 2'"):
        bench.apply(Overwrite, prices((1, "z", 9.0), outside), where="k <= 2")

    assert bench.rows() == as_rows(*ABC)


def test_an_overwrite_without_rows_empties_the_table(abc: Bench) -> None:
    abc.apply(Overwrite, prices())

    assert abc.rows() == []
    assert abc.engine.ledger("t", LEDGER) == 2


# --- merge


def test_a_merge_updates_rows_with_the_keys_and_inserts_the_others(abc: Bench) -> None:
    commit = abc.apply(Merge, prices((2, "B", 20.0), (4, "d", 4.0)), keys=("k",))

    assert commit.counts == (RowCounts(inserted=1, updated=1, deleted=0),)
    assert abc.rows() == as_rows((1, "a", 1.0), (2, "B", 20.0), (3, "c", 3.0), (4, "d", 4.0))
    assert ledgers(abc.path())[-1] == (1, LEDGER, 2)


def test_a_merge_updates_only_the_columns_it_names(abc: Bench) -> None:
    frame = pa.table({"k": [2, 4], "price": [20.0, 40.0]})

    abc.apply(Merge, frame, keys=("k",), update=("price",))

    assert abc.rows() == as_rows((1, "a", 1.0), (2, "b", 20.0), (3, "c", 3.0), (4, None, 40.0))


def test_a_merge_may_only_insert_or_only_update(abc: Bench) -> None:
    abc.apply(Merge, prices((2, "B", 20.0), (4, "d", 4.0)), keys=("k",), update=())
    assert abc.rows() == as_rows(*ABC, (4, "d", 4.0))

    abc.apply(Merge, prices((2, "B", 20.0), (5, "e", 5.0)), keys=("k",), insert=False)
    assert abc.rows() == as_rows((1, "a", 1.0), (2, "B", 20.0), (3, "c", 3.0), (4, "d", 4.0))


def test_delete_when_deletes_matched_rows_and_ignores_others(abc: Bench) -> None:
    frame = prices((1, "A", 10.0), (2, "B", 20.0), (8, "h", 8.0), (9, "i", 9.0))
    frame = frame.append_column("op", pa.array(["D", None, "D", "I"]))

    commit = abc.apply(Merge, frame, keys=("k",), delete_when='OP = "D"')

    assert commit.counts == (RowCounts(inserted=1, updated=1, deleted=1),)
    assert abc.rows() == as_rows((2, "B", 20.0), (3, "c", 3.0), (9, "i", 9.0))


def test_a_column_used_only_in_delete_when_is_no_licence_for_others(abc: Bench) -> None:
    frame = prices(*ABC).append_column("op", pa.array(["D"] * 3))
    frame = frame.append_column("extra", pa.array([1] * 3))

    with pytest.raises(SchemaMismatch, match="'extra' is not in it"):
        abc.apply(Merge, frame, keys=("k",), delete_when="op = 'D'")


def test_null_keys_match_nothing_and_are_inserted(abc: Bench) -> None:
    abc.apply(Append, prices((None, "n", 0.0)))

    abc.apply(Merge, prices((None, "x", 7.0), (None, "y", 8.0)), keys=("k",))

    assert abc.rows() == as_rows(*ABC, (None, "n", 0.0), (None, "x", 7.0), (None, "y", 8.0))


def test_duplicate_keys_are_named_and_nothing_is_written(abc: Bench) -> None:
    with pytest.raises(DuplicateKeys, match="k=2"):
        abc.apply(Merge, prices((2, "x", 0.0), (2, "y", 0.0)), keys=("k",))
    assert DeltaTable(str(abc.path())).version() == 0


def test_a_merge_by_several_keys_of_odd_names_works(bench: Bench) -> None:
    names = ['Key"1', "key`2", "Val'x"]
    write_deltalake(str(bench.path()), pa.table([["a", "b"], [1, 1], [1.0, 2.0]], names=names))
    frame = pa.table([["b", "c"], [1, 1], [20.0, 30.0]], names=names)

    bench.apply(Merge, frame, keys=(names[0], names[1]))

    assert [tuple(r.values()) for r in bench.rows()] == [
        ("a", 1, 1.0),
        ("b", 1, 20.0),
        ("c", 1, 30.0),
    ]


def test_a_merge_of_whole_rows_needs_all_columns(abc: Bench) -> None:
    with pytest.raises(SchemaMismatch, match=r"lacks 'price', .* update=\[...\]"):
        abc.apply(Merge, pa.table({"k": [1], "name": ["x"]}), keys=("k",))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"keys": ("kk",)}, "key column 'kk' is not in the frame"),
        ({"keys": ("k",), "update": ("prize",)}, "'prize', which is not in the frame"),
    ],
)
def test_columns_of_a_merge_that_are_not_there_are_named(
    abc: Bench, fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(SchemaMismatch, match=named):
        abc.apply(Merge, prices(*ABC), **fields)


def test_a_merge_that_does_nothing_is_refused(abc: Bench) -> None:
    with pytest.raises(InvalidRequest):
        abc.apply(Merge, prices(*ABC), keys=("k",), update=(), insert=False)


def test_a_merge_creates_the_table_with_what_it_would_insert(bench: Bench) -> None:
    frame = prices(*ABC).append_column("op", pa.array(["I", "D", None]))

    commit = bench.apply(Merge, frame, keys=("k",), delete_when="op = 'D'", partition_by=("name",))

    assert commit.counts == (RowCounts(inserted=2, updated=0, deleted=0),)
    assert [row["k"] for row in bench.rows()] == [1, 3]
    assert ledgers(bench.path()) == [(0, LEDGER, 1)]
    assert list(bench.staging.work.iterdir()) == []


# --- delete


def test_a_delete_removes_the_rows(abc: Bench) -> None:
    commit = abc.apply(Delete, where="name = 'a' OR price >= 3")

    assert commit == Commit(version=1, counts=(RowCounts(deleted=2),))
    assert abc.rows() == as_rows((2, "b", 2.0))
    assert ledgers(abc.path())[-1] == (1, LEDGER, 2)


def test_a_delete_of_whole_partitions_tells_the_number_of_rows(bench: Bench) -> None:
    bench.apply(Append, prices(*ABC), partition_by=("name",))

    commit = bench.apply(Delete, where="name in ('a', 'b')")

    assert commit.counts == (RowCounts(deleted=2),)
    assert bench.rows() == as_rows((3, "c", 3.0))


@pytest.mark.parametrize(
    ("where", "told"),
    [("nmae = 'a'", "did you mean 'name'"), ("k =", "cannot be parsed"), ("rand() < 1", "rand")],
)
def test_a_bad_condition_is_told(abc: Bench, where: str, told: str) -> None:
    for act in (
        lambda: abc.apply(Delete, where=where),
        lambda: abc.apply(Overwrite, prices(*ABC), where=where),
        lambda: abc.read(where=where),
    ):
        with pytest.raises(InvalidExpression, match=told):
            act()


def test_a_condition_that_only_spark_evaluates_is_not_native(abc: Bench) -> None:
    with pytest.raises(NotNative) as caught:
        abc.apply(Delete, where="upper(name) = 'A'")
    assert not caught.value.of_table


@pytest.mark.parametrize(
    ("kind", "fields"),
    [(Delete, {"where": "k = 1"}), (Merge, {"keys": ("k",), "insert": False})],
)
def test_what_needs_a_table_tells_that_there_is_none(
    bench: Bench, kind: type[Request], fields: dict[str, Any]
) -> None:
    with pytest.raises(TableNotFound):
        bench.apply(kind, None if kind is Delete else prices(*ABC), **fields)
    assert not bench.path().exists()


# --- rules of tables


def test_a_null_where_none_is_allowed_is_refused(bench: Bench) -> None:
    declare(
        bench,
        Field("k", PrimitiveType("long"), nullable=False),
        Field("name", PrimitiveType("string")),
    )
    bench.apply(Append, pa.table({"k": [1]}))

    with pytest.raises(ConstraintViolated, match="column 'k' is null, and must not be"):
        bench.apply(Append, pa.table({"k": [2, None], "name": ["x", "y"]}))
    with pytest.raises(ConstraintViolated, match="lacks 'k'"):
        bench.apply(Append, pa.table({"name": ["x"]}))
    with pytest.raises(ConstraintViolated, match="column 'k' is null, and must not be"):
        bench.apply(
            Merge,
            pa.table(
                {"k": [None], "name": ["x"]},
            ),
            keys=("k",),
        )

    assert bench.rows() == [{"k": 1, "name": None}]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [(Append, {}), (Overwrite, {}), (Merge, {"keys": ("k",)}), (Overwrite, {"where": "k > 0"})],
)
def test_a_row_that_breaks_a_check_is_refused(
    abc: Bench, kind: type[Request], fields: dict[str, Any]
) -> None:
    DeltaTable(str(abc.path())).alter.add_constraint({"positive": "price > 0"})

    with pytest.raises(ConstraintViolated, match=r"positive \(price > 0\)"):
        abc.apply(kind, prices((1, "a", -1.0)), **fields)
    abc.apply(kind, prices((1, "a", 10.0)), **fields)

    assert DeltaTable(str(abc.path())).version() == 2


def test_a_delete_on_an_append_only_table_is_refused(abc: Bench) -> None:
    DeltaTable(str(abc.path())).alter.set_table_properties({"delta.appendOnly": "true"})

    with pytest.raises(ConstraintViolated, match="append-only"):
        abc.apply(Delete, where="k = 1")
    assert abc.apply(Append, prices((4, "d", 4.0))).version == 2


@pytest.mark.parametrize(
    ("metadata", "rule"),
    [
        ({"delta.generationExpression": "k + 1"}, "generated columns"),
        ({"delta.identity.start": "1"}, "identity columns"),
        ({"CURRENT_DEFAULT": "7"}, "columns with defaults"),
        ({"__CHAR_VARCHAR_TYPE_STRING": "char(3)"}, "char and varchar"),
    ],
)
def test_columns_that_spark_computes_or_checks_are_not_native(
    bench: Bench, metadata: dict[str, str], rule: str
) -> None:
    declare(
        bench,
        Field("k", PrimitiveType("long")),
        Field("x", PrimitiveType("long"), metadata=metadata),
    )

    with pytest.raises(NotNative, match=rule) as caught:
        bench.apply(Append, pa.table({"k": [1]}))
    assert caught.value.of_table


@pytest.mark.parametrize("feature", ["rowTracking", "clustering", "inCommitTimestamp"])
def test_features_that_delta_rs_cannot_write_are_not_native(abc: Bench, feature: str) -> None:
    add_to_log(
        abc.path(),
        {
            "protocol": {
                "minReaderVersion": 1,
                "minWriterVersion": 7,
                "writerFeatures": [feature, "domainMetadata", "appendOnly", "invariants"],
            }
        },
    )

    with pytest.raises(NotNative) as caught:
        abc.apply(Append, prices(*ABC))
    assert caught.value.of_table
    assert abc.engine.ledger("t", LEDGER) == 1


@pytest.mark.parametrize("text", ['name = "a"', "upper(name) = 'A'", "`k` > 0", "name rlike 'a'"])
def test_a_check_that_data_fusion_might_read_otherwise_is_not_native(abc: Bench, text: str) -> None:
    metadata = next(a["metaData"] for _, a in actions(abc.path()) if "metaData" in a)
    metadata["configuration"]["delta.constraints.rule"] = text
    add_to_log(
        abc.path(),
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 3}},
        {"metaData": metadata},
    )

    with pytest.raises(NotNative, match="constraint rule"):
        abc.apply(Append, prices(*ABC))


def add_to_log(table: Location, *added: dict[str, Any]) -> None:
    version = DeltaTable(str(table)).version() + 1
    entry = table / "_delta_log" / f"{version:020d}.json"
    info = {"commitInfo": {"timestamp": 0, "operation": "SET"}}
    entry.write_text("".join(json.dumps(action) + "\n" for action in (info, *added)))


# --- reads


def test_a_read_returns_columns_rows_and_versions_as_asked(abc: Bench) -> None:
    abc.apply(Append, prices((4, "d", None)))

    assert abc.read() == as_rows(*ABC, (4, "d", None))
    assert abc.read(version=0) == as_rows(*ABC)
    assert abc.read(columns=("price", "k"), where="NAME = 'b'") == [{"price": 2.0, "k": 2}]
    assert abc.read(where="price is null", columns=("k",)) == [{"k": 4}]
    assert len(abc.read(limit=2)) == 2
    assert abc.read(limit=0) == []
    assert abc.read(where="k > 100") == []


def test_a_result_has_the_tables_columns_and_types_even_without_rows(abc: Bench) -> None:
    query = Read(request_id="r", client_id=CLIENT_ID, table="t", where="k > 100")
    folder = abc.staging.new_work_path()

    assert abc.engine.read(query, folder) == (0, 0)

    rows = rows_in(folder)
    assert rows is not None
    assert rows.schema == prices().schema


def test_rows_are_those_of_one_version_however_the_table_moves_on(abc: Bench) -> None:
    query = Read(request_id="r", client_id=CLIENT_ID, table="t")
    with abc.engine._handles.use("t") as handle:
        found = find_rows(at_version(handle, query), query)
    abc.apply(Delete, where="k = 1")
    abc.apply(Append, prices((4, "d", 4.0)))

    folder = abc.staging.new_work_path()
    assert (found.version, write_rows(found, folder)) == (0, 3)
    rows = rows_in(folder)
    assert rows is not None
    assert sorted(rows["k"].to_pylist()) == [1, 2, 3]


@pytest.mark.on_disk("sets the times of log entries")
def test_a_read_at_a_time_sees_what_was_there_then(abc: Bench) -> None:
    abc.apply(Append, prices((4, "d", 4.0)))
    noon = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)
    for version in (0, 1):
        entry = abc.path() / "_delta_log" / f"{version:020d}.json"
        stamp = (noon + dt.timedelta(hours=version)).timestamp()
        os.utime(on_disk(entry), (stamp, stamp))

    assert len(abc.read(timestamp="2024-01-01T12:30:00Z")) == 3
    assert len(abc.read(timestamp="2024-01-01T13:30:00")) == 4
    assert len(abc.read(timestamp="2999-01-01")) == 4
    with pytest.raises(VersionNotFound):
        abc.read(timestamp="2024-01-01T11:00:00Z")
    with pytest.raises(InvalidRequest):
        abc.read(timestamp="yesterday")


def test_what_is_not_there_to_read_is_told(abc: Bench) -> None:
    for version in (7, -1):
        with pytest.raises(VersionNotFound, match="the newest is 0"):
            abc.read(version=version)
    with pytest.raises(SchemaMismatch, match="did you mean 'price'"):
        abc.read(columns=("prize",))
    query = Read(request_id="r", client_id=CLIENT_ID, table="nothing")
    with pytest.raises(TableNotFound):
        abc.engine.read(query, abc.staging.new_work_path())


def test_history_has_the_newest_commits_first(abc: Bench) -> None:
    abc.apply(Delete, where="k = 1")

    found = abc.engine.history("t", 10)

    assert found["version"].to_pylist() == [1, 0]
    assert found["operation"].to_pylist() == ["DELETE", "WRITE"]
    assert found.schema.field("timestamp").type == UTC
    assert json.loads(found["operationParameters"][1].as_py())["mode"] == "ErrorIfExists"
    assert json.loads(found["userMetadata"][0].as_py())["deltaq"] == LEDGER
    assert abc.engine.history("t", 1)["version"].to_pylist() == [1]


def test_detail_describes_the_table_in_json_values(bench: Bench) -> None:
    bench.apply(Append, prices(*ABC), partition_by=("name",))

    found = bench.engine.detail("t")

    assert json.loads(json.dumps(found)) == found
    assert found["version"] == 0
    assert found["files"] == 3
    assert found["partition_by"] == ["name"]
    assert found["size_bytes"] == bench.engine.table_bytes("t") > 0
    assert found["schema"][0] == {"name": "k", "type": "bigint", "nullable": True}


@pytest.mark.parametrize(
    "ask", [lambda e: e.history("no", 1), lambda e: e.detail("no"), lambda e: e.checkpoint("no")]
)
def test_a_table_that_is_not_there_is_told(bench: Bench, ask: Callable[[Any], Any]) -> None:
    with pytest.raises(TableNotFound):
        ask(bench.engine)
    assert bench.engine.table_bytes("no") == 0


# --- maintenance


def test_optimize_compacts_files_and_the_ledger_moves_after_it(abc: Bench) -> None:
    for n in range(4, 10):
        abc.apply(Append, prices((n, "x", 0.0)))
    before = abc.rows()

    abc.apply(Optimize)
    done = abc.apply(Optimize, zorder=("k",))

    assert abc.rows() == before
    assert abc.engine.detail("t")["files"] == 1
    assert abc.new_engine().ledger("t", LEDGER) == abc.sequence
    assert done.version == 7 + 4 - 1
    # The commit that compacts names no request: it would be taken for applied.
    assert [len(committed_in(log_entry(abc.path(), v))) for v in (7, 8, 9, 10)] == [0, 1, 0, 1]


@pytest.mark.on_disk("has checksums of Hadoop beside files")
def test_vacuum_removes_what_no_version_needs_and_less_than_a_week_needs_force(abc: Bench) -> None:
    (old,) = abc.path().glob("*.parquet")
    checksum = old.with_name(f".{old.name}.crc")  # as Spark leaves beside what it writes
    checksum.touch()
    abc.apply(Overwrite, prices((9, "z", 9.0)))

    with pytest.raises(InvalidRequest, match="168"):
        abc.apply(Vacuum, retention_hours=1)
    told = abc.apply(Vacuum, retention_hours=0, force=True, dry_run=True)
    size_bytes = old.stat().st_size
    assert told.value == {"files": 1, "size_bytes": size_bytes, "listed": [old.name]}
    assert len(list(abc.path().glob("*.parquet"))) == 2
    assert checksum.exists()
    abc.apply(Vacuum, retention_hours=0, force=True)

    assert len(list(abc.path().glob("*.parquet"))) == 1
    assert not checksum.exists()
    assert abc.rows() == as_rows((9, "z", 9.0))
    assert abc.new_engine().ledger("t", LEDGER) == abc.sequence
    with pytest.raises(VersionNotFound):
        abc.read(version=0)


def test_a_checkpoint_shortens_the_log_that_must_be_read(abc: Bench) -> None:
    for n in range(4, 8):
        abc.apply(Append, prices((n, "x", 0.0)))
    assert abc.engine.commits_since_checkpoint("t") == 5

    abc.engine.checkpoint("t")

    assert abc.engine.commits_since_checkpoint("t") == 0
    assert abc.new_engine().ledger("t", LEDGER) == 5
    abc.apply(Append, prices((9, "x", 0.0)))
    assert abc.engine.commits_since_checkpoint("t") == 1
    assert abc.new_engine().ledger("t", LEDGER) == 6


# --- errors


def test_every_exception_of_delta_rs_has_a_translation() -> None:
    known = {getattr(deltalake.exceptions, name) for name in deltalake.exceptions.__all__}

    assert known <= set(errors.BY_CLASS)


def test_an_unknown_error_names_its_class_and_its_first_line() -> None:
    foreign = deltalake.exceptions.DeltaError("Generic error: what a surprise\nat 0x1234")

    with pytest.raises(RequestError) as caught, errors.native_errors("t"):
        raise foreign

    assert caught.value.message == "table t: DeltaError: what a surprise"


@pytest.mark.on_disk("has rights")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_lake_that_cannot_be_written_is_told(abc: Bench) -> None:
    on_disk(abc.path()).chmod(0o555)

    with pytest.raises(StorageUnavailable):
        abc.apply(Append, prices(*ABC))


def test_a_version_whose_files_are_gone_is_told(abc: Bench) -> None:
    for file in abc.path().glob("*.parquet"):
        file.unlink()

    with pytest.raises(VersionNotFound, match=r"table t: Failed to fetch .* not found"):
        abc.read()
