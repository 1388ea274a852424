"""The same bad request is refused by either engine with the same error in the same words."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from deltaq.tasks.errors import (
    CommitConflict,
    ConstraintViolated,
    DeltaqError,
    DuplicateKeys,
    InvalidExpression,
    InvalidFrame,
    InvalidRequest,
    SchemaMismatch,
    TableNotFound,
    VersionNotFound,
)
from deltaq.tasks.location import Location
from deltaq.tasks.request import Append
from deltaq.worker.warm import WarmSpark
from tests.support.twins import Act, Twins

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def twins(module_place: Location, warm_spark: WarmSpark) -> Twins:
    """Tables that are refused everything."""
    made = Twins(module_place / "refused", warm_spark)
    made.both(lambda t: t.append(rows(k=[1, 2], v=["a", "b"], w=[1.0, 2.0])))
    return made


@pytest.fixture(scope="module")
def missing(module_place: Location, warm_spark: WarmSpark) -> Twins:
    """Tables that are not there."""
    return Twins(module_place / "missing", warm_spark)


def rows(**columns: Any) -> pa.Table:
    return pa.table(columns)


def append(partition_by: tuple[str, ...] | None = None, /, **columns: Any) -> Act:
    return lambda t: t.append(rows(**columns), partition_by=partition_by)


def merge(frame: pa.Table, *keys: str, **options: Any) -> Act:
    return lambda t: t.merge(frame, keys=keys, **options)


def overwrite(where: str, **columns: Any) -> Act:
    return lambda t: t.overwrite(rows(**columns), where=where)


def delete(where: str) -> Act:
    return lambda t: t.delete(where)


def read(**query: Any) -> Act:
    return lambda t: t.read(**query)


ONE = rows(k=[1], v=["a"], w=[1.0])
LACKS_W = rows(k=[1], v=["a"])
TWICE = rows(k=[1, 1, 2], v=["a", "b", "c"], w=[1.0, 2.0, 3.0])

REFUSED: list[tuple[Act, type[DeltaqError], str]] = [
    (append(k=[1], x=[1]), SchemaMismatch, "column 'x' is not in it"),
    (append(k=["1"]), SchemaMismatch, "string does not fit bigint"),
    (append(k=[1, 1.5]), SchemaMismatch, "1.5 does not fit bigint"),
    (append(k=[1], K=[1]), InvalidFrame, "more than one column called 'k'"),
    (append(), InvalidFrame, "no columns"),
    (append(("k",), k=[1]), SchemaMismatch, "is partitioned by []"),
    (merge(ONE, "k", partition_by=("k",)), SchemaMismatch, "is partitioned by []"),
    (merge(ONE, "kk"), SchemaMismatch, "key column 'kk'"),
    (merge(TWICE, "k"), DuplicateKeys, "more than one row with k=1"),
    (merge(rows(k=[1.5], v=["a"], w=[1.0]), "k"), SchemaMismatch, "1.5 does not fit bigint"),
    (merge(LACKS_W, "k"), SchemaMismatch, "lacks 'w'"),
    (merge(LACKS_W, "k", update=("vv",)), SchemaMismatch, "'vv', which is not in the frame"),
    (merge(LACKS_W, "k", update=("w",)), SchemaMismatch, "'w', which is not in the frame"),
    (merge(ONE, "k", update=(), insert=False), InvalidRequest, "neither updates"),
    (merge(ONE, "k", delete_when="op = 'D'"), InvalidExpression, "no column 'op'"),
    (merge(LACKS_W, "k", delete_when="w = 1"), InvalidExpression, "no column 'w'"),
    (merge(ONE.append_column("op", pa.array(["D"])), "k"), SchemaMismatch, "column 'op' is not"),
    (delete("kk = 1"), InvalidExpression, "did you mean 'k'"),
    (delete("k IN (SELECT 1)"), InvalidExpression, "subquery"),
    (delete("k = = 1"), InvalidExpression, "cannot be parsed"),
    (overwrite("k > 5", k=[1]), ConstraintViolated, "outside where='k > 5'"),
    (overwrite("k > 5", k=pa.array([None], pa.int64())), ConstraintViolated, "outside where"),
    (overwrite("kk > 5", k=[1]), InvalidExpression, "did you mean 'k'"),
    (read(version=7), VersionNotFound, "no version 7; the newest is 0"),
    (read(timestamp="2001-01-01T00:00:00Z"), VersionNotFound, "its log begins later"),
    (read(timestamp="yesterday"), InvalidRequest, "ISO 8601"),
    (read(columns=("k", "kk", "vv")), SchemaMismatch, "no column 'kk'"),
    (read(columns=()), InvalidRequest, "asks for nothing"),
    (read(where="kk = 1"), InvalidExpression, "did you mean 'k'"),
    (lambda t: t.apply(t.stage(Append, ONE), first=0), CommitConflict, "sequence 0 was committed"),
]

REFUSED_WITHOUT_TABLE: list[tuple[Act, type[DeltaqError], str]] = [
    (read(), TableNotFound, "there is no table prices"),
    (delete("k = 1"), TableNotFound, "there is no table prices"),
    (merge(ONE, "k", insert=False), TableNotFound, "there is no table prices"),
    (lambda t: t.engine.history("prices", 1), TableNotFound, "there is no table prices"),
    (lambda t: t.engine.detail("prices"), TableNotFound, "there is no table prices"),
    (append(("kk",), k=[1]), InvalidFrame, "'kk' is not in the frame"),
    (append(("K",), k=[1], v=["a"]), InvalidFrame, "did you mean 'k'"),
    (append(("k", "k"), k=[1], v=["a"]), InvalidFrame, "in it twice"),
    (append(("v", "k"), k=[1], v=["a"]), InvalidFrame, "at least one column"),
    (append(("k",), k=[[1]], v=["a"]), InvalidFrame, "array<bigint>"),
    (append(("k",), k=[b"1"], v=["a"]), InvalidFrame, "binary"),
    (append(**{"a b": [1]}), InvalidFrame, "column 'a b'"),
    (append(k=[1], n=pa.nulls(1)), InvalidFrame, "only nulls"),
    (append(u=pa.array([1], pa.uint64())), InvalidFrame, "signed integer"),
    (overwrite("k > 5", k=[1]), ConstraintViolated, "outside where='k > 5'"),
    (overwrite("kk > 5", k=[1]), InvalidExpression, "did you mean 'k'"),
    (merge(TWICE, "k"), DuplicateKeys, "more than one row with k=1"),
    (merge(ONE, "kk"), SchemaMismatch, "key column 'kk'"),
    (merge(ONE, "k", delete_when="op = 'D'"), InvalidExpression, "no column 'op'"),
]


@pytest.mark.parametrize(("act", "error", "said"), REFUSED, ids=[said for *_, said in REFUSED])
def test_a_bad_request_is_refused_in_the_same_words(
    twins: Twins, act: Act, error: type[DeltaqError], said: str
) -> None:
    refused = twins.refused(act)

    assert type(refused) is error
    assert said in refused.message
    assert twins.native.ledger() == twins.spark.ledger() == 0


@pytest.mark.parametrize(
    ("act", "error", "said"),
    REFUSED_WITHOUT_TABLE,
    ids=[said for *_, said in REFUSED_WITHOUT_TABLE],
)
def test_a_bad_request_for_a_new_table_is_refused_in_the_same_words(
    missing: Twins, act: Act, error: type[DeltaqError], said: str
) -> None:
    refused = missing.refused(act)

    assert type(refused) is error
    assert said in refused.message
    assert not missing.native.lake.exists("prices")
    assert not missing.spark.lake.exists("prices")


def test_a_time_to_come_means_the_newest_version(twins: Twins) -> None:
    assert twins.compare(timestamp="2999-01-01").num_rows == 2


def test_both_engines_tell_the_history_in_the_same_columns(twins: Twins) -> None:
    native, spark = (a.engine.history("prices", 5) for a in (twins.native, twins.spark))

    assert native.schema == spark.schema
    for column in ("version", "operation", "rows"):
        assert native[column] == spark[column]
    assert (native["engine"].to_pylist(), spark["engine"].to_pylist()) == (["native"], ["spark"])
    assert len(native["request_ids"][0].as_py()) == len(spark["request_ids"][0].as_py()) == 1


def test_both_engines_tell_who_submitted_what_is_in_a_commit(
    place: Location, warm_spark: WarmSpark
) -> None:
    users = ["ann@web1", "bob", None, "ann@web1"]
    twins = Twins(place, warm_spark)
    twins.both(lambda t: t.apply(*(t.stage(Append, ONE, submitted_by=user) for user in users)))

    for table in (twins.native, twins.spark):
        assert table.engine.history("prices", 5)["user"].to_pylist() == ["ann@web1, bob"]
