"""SELECT statements: native gives what Spark gives, or leaves them to Spark."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from deltaq.client.results import rows_in
from deltaq.tasks.errors import (
    DeltaqError,
    InvalidExpression,
    ResultTooLarge,
    TableNotFound,
)
from deltaq.tasks.location import Location
from deltaq.tasks.query import Read, Sql
from deltaq.tasks.request import new_request_id
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines import Engine, NotNative
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.engines.spark import SparkEngine
from deltaq.worker.lake import Lake
from deltaq.worker.warm import WarmSpark
from tests.support.applying import Applier
from tests.support.requests import CLIENT_ID
from tests.support.twins import canonical

pytestmark = pytest.mark.timeout(300)

NAN = float("nan")
DAY = dt.datetime(2024, 5, 31, 12, tzinfo=dt.UTC)
PRICES = pa.table(
    {
        "symbol": ["A", "B", "C", None, "a"],
        "price": [1.5, NAN, None, -0.0, 0.0],
        "lots": pa.array([1, None, 3, 4, 2**31 - 1], pa.int32()),
        "big": [1, 2, 3, None, 2**62],
        "amount": pa.array([Decimal("1.10"), None, Decimal("-2.25"), Decimal("0"), Decimal("7")]),
        "ts": pa.array([DAY, None, DAY, DAY, None], pa.timestamp("us", "UTC")),
    }
)
TRADES = pa.table(
    {
        "symbol": ["A", "A", "B", None, "Z"],
        "qty": pa.array([1, 5, None, 4, 9], pa.int32()),
        "venue": ["x", "y", None, "x", "z"],
    }
)

NATIVE = [
    "select * from prices",
    "select symbol, price as p from prices where price > 1",
    "select * from prices where symbol = 'A' or amount < 0 order by symbol limit 2",
    "select symbol from prices order by symbol",
    "select symbol, price from prices order by price desc, symbol",
    "select lots from prices order by lots asc nulls last limit 3",
    "select * from prices join trades using (symbol)",
    "select * from prices left join trades using (symbol)",
    "select p.symbol, t.venue from prices p join trades t on p.symbol = t.symbol",
    "select p.symbol, t.qty from prices p left join trades t"
    " on (p.symbol = t.symbol and p.lots = t.qty) where t.venue is null or p.price > 0",
    "select count(*) as n, count(price) as p, sum(lots) as s, avg(price) as m from prices",
    "select venue, count(*) as n, min(symbol) as first, max(qty) as most from trades"
    " group by venue order by n desc, venue",
    "select symbol, sum(t.qty) as qty from prices join trades t using (symbol)"
    " group by symbol order by symbol",
    "select min(amount) as least, max(ts) as last from prices",
    "select symbol from `prices` where big is not null and lots in (1, 3)",
]
SPARK = [
    "select symbol, price * 2 as twice from prices",
    "select SYMBOL from prices",
    "select count(*) from prices",
    "select sum(big) as s from prices where lots < 4",
    "select distinct symbol from trades",
    "with a as (select * from trades where qty > 1) select venue from a",
    "select symbol from prices union all select symbol from trades",
    "select symbol from prices where symbol in (select symbol from trades)",
    "select symbol, row_number() over (order by symbol) as n from prices",
    "select max(price) as top from prices",
    "select symbol from prices full join trades using (symbol)",
    "select symbol from prices order by 1",
    "select upper(symbol) as s from prices where lots / 2 = 0.5",
    "select venue, count(*) as n from trades group by venue having n > 1",
]


class Lakes:
    """One lake of two tables, and both engines on it."""

    def __init__(self, folder: Location, warm: WarmSpark) -> None:
        self.folder = folder
        self.staging = StagingArea(folder / ".deltaq")
        lake = Lake(folder)
        self.native = NativeEngine(lake, self.staging)
        self.spark = SparkEngine(warm, lake, self.staging)
        for name, rows in (("prices", PRICES), ("trades", TRADES)):
            table = Applier(self.native, folder, name)
            table.append(rows.slice(0, 2))
            table.append(rows.slice(2))

    def run(
        self, engine: Engine, text: str, *, max_rows: int = 100, max_bytes: int = 2**20
    ) -> pa.Table:
        query = Sql(
            request_id=new_request_id(),
            client_id=CLIENT_ID,
            text=text,
            max_rows=max_rows,
            max_bytes=max_bytes,
        )
        folder = self.staging.new_work_path()
        count = engine.sql(query, folder)
        rows = rows_in(folder)
        assert rows is not None
        assert rows.num_rows == count
        return rows


@pytest.fixture(scope="module")
def lakes(module_place: Location, warm_spark: WarmSpark) -> Lakes:
    return Lakes(module_place, warm_spark)


@pytest.mark.parametrize("text", NATIVE)
def test_what_native_answers_is_what_spark_answers(lakes: Lakes, text: str) -> None:
    native, spark = lakes.run(lakes.native, text), lakes.run(lakes.spark, text)

    assert native.schema.remove_metadata() == spark.schema.remove_metadata()
    assert canonical(native) == canonical(spark)
    if "order by" in text:
        column = text.partition("order by ")[2].replace(",", " ").split()[0]
        assert repr(native[column].to_pylist()) == repr(spark[column].to_pylist())


@pytest.mark.parametrize("text", SPARK)
def test_what_may_mean_something_else_is_left_to_spark(lakes: Lakes, text: str) -> None:
    with pytest.raises(NotNative):
        lakes.run(lakes.native, text)

    assert lakes.run(lakes.spark, text).num_columns > 0


WRONG: list[tuple[str, type[DeltaqError], str]] = [
    ("selec symbol from prices", InvalidExpression, "parsed"),
    ("drop table prices", InvalidExpression, "no SELECT"),
    ("insert into prices select * from prices", InvalidExpression, "only read"),
    ("select * from prices; select * from trades", InvalidExpression, "one SELECT"),
    ("select * from delta.`/etc`", InvalidExpression, "no table of the lake"),
    ("select * from text.`/etc/passwd`", InvalidExpression, "no table of the lake"),
    ("select * from `../prices`", InvalidExpression, "invalid table name"),
    ("select * from range(3)", InvalidExpression, "no table of the lake"),
    ("select transform(symbol) using 'cat' as (x) from prices", InvalidExpression, "a program"),
    ("select reflect('java.lang.System', 'exit', 1) from prices", InvalidExpression, "code"),
    ("select input_file_name() from prices", InvalidExpression, "tell of files"),
    ("select 1", InvalidExpression, "reads no table"),
    ("select * from prices version as of 0", InvalidExpression, r"read\(version=\)"),
    ("select * from nowhere", TableNotFound, "nowhere"),
    ("select * from prices p join trades t on p.symbol = t.symbol", InvalidExpression, "alias"),
]


@pytest.mark.parametrize(("text", "kind", "said"), WRONG)
def test_both_engines_refuse_alike(
    lakes: Lakes, text: str, kind: type[DeltaqError], said: str
) -> None:
    errors = []
    for engine in (lakes.native, lakes.spark):
        with pytest.raises(kind, match=said) as caught:
            lakes.run(engine, text)
        errors.append(caught.value.message)

    assert errors[0] == errors[1]


def test_an_unknown_column_is_an_invalid_expression(lakes: Lakes) -> None:
    with pytest.raises(InvalidExpression, match=r"'sybmol' \(did you mean 'symbol'\?\)"):
        lakes.run(lakes.native, "select sybmol from prices")
    with pytest.raises(InvalidExpression, match="sybmol"):
        lakes.run(lakes.spark, "select sybmol from prices")


@pytest.mark.parametrize(
    "text", ["price as p, p as q", "_metadata.file_path as f", "s.symbol as s"]
)
def test_a_name_that_spark_may_know_is_left_to_it(lakes: Lakes, text: str) -> None:
    with pytest.raises(NotNative):
        lakes.run(lakes.native, f"select {text} from prices")


def test_the_environment_of_the_worker_is_out_of_reach(lakes: Lakes) -> None:
    told = lakes.run(lakes.spark, "select '${env:HOME}' as home, symbol from prices limit 1")

    assert told["home"].to_pylist() == ["${env:HOME}"]
    where = "concat('${env:', 'HOME}') = '${env:HOME}'"
    query = Read(request_id=new_request_id(), client_id=CLIENT_ID, table="prices", where=where)
    assert lakes.spark.read(query, lakes.staging.new_work_path()) == (1, 5)


@pytest.mark.parametrize("limit", [{"max_rows": 4}, {"max_bytes": 10}])
def test_a_result_over_a_limit_is_an_error_that_names_the_limit(
    lakes: Lakes, limit: dict[str, Any]
) -> None:
    ((name, value),) = limit.items()
    for engine in (lakes.native, lakes.spark):
        with pytest.raises(ResultTooLarge, match=f"{name}={value}.*larger {name}=") as caught:
            lakes.run(engine, "select * from prices", **limit)
        assert caught.value.details == limit

    assert lakes.run(lakes.native, "select * from prices", max_rows=5).num_rows == 5
