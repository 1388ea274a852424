"""Each translation is evaluated by delta-rs, as a query and as a delete, on one small table."""

import datetime as dt
import shutil
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake

from deltaq.tasks.errors import InvalidExpression
from deltaq.worker.expressions import (
    Untranslatable,
    check_columns,
    columns_in,
    translate,
)

_DAY = dt.date(2024, 1, 1)
_NOON = dt.datetime(2024, 1, 1, 12)
_WIDE = 2**53 + 1

#: Five rows; the id is the row's place, from 0.
ROWS = pa.table(
    {
        "id": [0, 1, 2, 3, 4],
        "Symbol": ["A", "b", None, "it's", "100%"],
        "tiny": pa.array([-128, 0, None, 5, 127], pa.int8()),
        "small": pa.array([-300, 0, None, 5, 300], pa.int16()),
        "num": pa.array([-300, 0, None, 5, 300], pa.int32()),
        "qty": pa.array([1, 2, None, _WIDE - 1, _WIDE]),
        "price": pa.array([0.0, -0.0, None, 0.1, -2.5]),
        "bid": pa.array([-0.0, 0.5, 1.0, 0.1, -2.5]),
        "ratio": pa.array([0.0, -0.0, None, 0.5, 0.1], pa.float32()),
        "amount": pa.array(
            [Decimal("0.1"), Decimal("0.100000000000000001"), None, Decimal("-5"), Decimal("5")],
            pa.decimal128(38, 18),
        ),
        "flag": [True, False, None, True, False],
        "day": pa.array([_DAY, _DAY + dt.timedelta(1), None, dt.date(1969, 12, 31), _DAY]),
        "ts": pa.array([_NOON, _NOON.replace(microsecond=1), None, _NOON, dt.datetime(1970, 1, 1)],
                       pa.timestamp("us", "UTC")),
        "naive": pa.array([_NOON, _NOON.replace(microsecond=1), None, _NOON, _NOON],
                          pa.timestamp("us")),
        "a b.c": pa.array([1, 2, 3, None, 5]),
        'quo"te': pa.array([1, 2, 3, None, 5]),
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("expressions") / "rows"
    write_deltalake(path, ROWS)
    return path


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("true", [0, 1, 2, 3, 4]),
        ("FALSE", []),
        ("symbol = 'A'", [0]),
        ('SYMBOL = "A"', [0]),
        ("`Symbol` == 'it\\'s'", [3]),
        ("symbol <> 'A'", [1, 3, 4]),
        ("symbol != 'A'", [1, 3, 4]),
        ("'A' < symbol", [1, 3]),
        ("symbol <=> 'A'", [0]),
        ("not (symbol <=> 'A')", [1, 2, 3, 4]),
        ("symbol IS NULL", [2]),
        ("symbol is not null and id > 2", [3, 4]),
        ("symbol in ('A', 'b', 'z')", [0, 1]),
        ("symbol not in ('A', 'b')", [3, 4]),
        ("symbol like '%0\\%'", None),
        ("symbol like '_'", [0, 1]),
        ("symbol not like '_'", [3, 4]),
        ("symbol between 'A' and 'b'", [0, 1]),
        ("tiny = -128", None),
        ("tiny >= -127 and tiny <= 5", [1, 3]),
        ("small > 5", [4]),
        ("num in (5, 300)", [3, 4]),
        ("num = 5.0", [3]),
        ("num > 5.5", None),
        ("qty = 9007199254740993", [4]),
        ("qty > 9007199254740992", [4]),
        ("qty not between 1 and 2", [3, 4]),
        ("qty = 1e0", None),
        ("qty = '1'", None),
        ("price = 0", [0, 1]),
        ("price < 0", [4]),
        ("price >= 0.0", [0, 1, 3]),
        ("price = 0.1", [3]),
        ("price in (0, 0.1)", [0, 1, 3]),
        ("price between 0 and 1", [0, 1, 3]),
        ("price <=> 0", [0, 1]),
        ("price <> -2.5", [0, 1, 3]),
        ("price = bid", [0, 3, 4]),
        ("price < bid", [1]),
        ("ratio = 0", [0, 1]),
        ("ratio > 0", [3, 4]),
        ("ratio = 0.5", [3]),
        ("ratio = 0.1", None),
        ("amount = 0.1", [0]),
        ("amount = 0.100000000000000001", [1]),
        ("amount > 0.1", [1, 4]),
        ("amount = -5", [3]),
        ("amount = 0.1234567890123456789", None),
        ("flag", [0, 3]),
        ("not flag", [1, 4]),
        ("flag = true", [0, 3]),
        ("flag is true or flag is null", [0, 2, 3]),
        ("flag is not true", [1, 2, 4]),
        ("flag is false", [1, 4]),
        ("day = '2024-01-01'", [0, 4]),
        ("day > DATE'2024-01-01'", [1]),
        ("day < '1970-01-01'", [3]),
        ("day = '2024-1-1'", None),
        ("day = TIMESTAMP'2024-01-01 00:00:00'", None),
        ("ts = '2024-01-01 12:00:00'", [0, 3]),
        ("ts > TIMESTAMP '2024-01-01 12:00:00'", [1]),
        ("ts > '2024-01-01T12:00:00.000001Z'", []),
        ("ts = '2024-01-01 13:00:00+01:00'", [0, 3]),
        ("ts < DATE'1970-01-02'", [4]),
        ("ts = '2024-01-01 12:00'", None),
        ("naive = '2024-01-01 12:00:00'", [0, 3, 4]),
        ("naive > TIMESTAMP_NTZ'2024-01-01 12:00:00'", [1]),
        ("naive > '2024-01-01 12:00:00Z'", None),
        ("`a b.c` = 3", [2]),
        ('`quo"te` = 3', [2]),
        ("id = 1 or id = 2 and flag", [1]),
        ("not id = 1 and id < 3", [0, 2]),
        ("id = null", None),
        ("qty = num", None),
        ("not (qty = qty)", None),
        ("id + 1 = 2", None),
        ("upper(symbol) = 'A'", None),
        ("symbol rlike 'A'", None),
        ("symbol ilike 'a'", None),
        ("year(day) = 2024", None),
        ("day > current_date()", None),
        ("id in (1, null)", None),
        ("1 = 1", None),
        ("symbol < 5", None),
    ],
)
def test_a_translated_condition_selects_the_rows_that_spark_selects(
    table: Path, tmp_path: Path, text: str, ids: list[int] | None
) -> None:
    if ids is None:
        with pytest.raises(Untranslatable):
            translate(text, ROWS.schema, what="where")
        return

    condition = translate(text, ROWS.schema, what="where")

    query = f"select id from t where {condition}"
    found = QueryBuilder().register("t", DeltaTable(table)).execute(query).read_all()
    assert sorted(pa.table(found)["id"].to_pylist()) == ids
    twin = tmp_path / "twin"
    shutil.copytree(table, twin)
    DeltaTable(twin).delete(condition)
    left = DeltaTable(twin).to_pyarrow_table()["id"].to_pylist()
    assert sorted(left) == [i for i in range(5) if i not in ids]


def test_a_qualifier_comes_before_each_column() -> None:
    written = translate("symbol = 'A' and flag", ROWS.schema, what="where", qualifier="source")

    assert written == '(source."Symbol" = \'A\') AND (source."flag")'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("-- nothing", "it is empty"),
        ("id =", "it cannot be parsed: something is missing at '=' (line 1, character 4)"),
        ("id = 1)", "it cannot be parsed: ')' is not expected (line 1, character 7)"),
        ("(id = 1", "it cannot be parsed: ')' is missing after '1' (line 1, character 7)"),
        ("where id = 1", "cannot be parsed"),
        ("id = 'a", "it cannot be parsed: a quote or a comment has no end"),
        ("id = 1; drop table x", "more than one"),
        ("drop table x", "no condition"),
        ("select 1", "subquery"),
        ("id in (select id from x)", "subquery"),
        ("exists (select 1)", "subquery"),
        ("id = 1 union select 1", "subquery"),
        ("values (1)", "makes rows"),
        ("explode(a)", "makes rows"),
        ("sum(id) > 1", "aggregate"),
        ("row_number() over (order by id) = 1", "window"),
        ("*", "it has a *"),
        ("id = :p", "parameter"),
        ("id = ?", "parameter"),
        ("id as x", "gives a name"),
        ("id x", "gives a name"),
        ("1", "no condition"),
        ("'a'", "no condition"),
        ("(id + 1)", "no condition"),
        ("null", "no condition"),
        ("set a = 1", "no condition"),
        ("rand() > 0.5", "rand() is not allowed: a commit that is tried again"),
        ("uuid() = 'x'", "uuid() is not allowed"),
        ("Reflect('java.lang.System', 'exit', 1) is null", "calls code outside SQL"),
        ("java_method('a', 'b') = 'c'", "calls code outside SQL"),
        ("id = 1 and current_user() = 'x'", "current_user() is not allowed"),
        ("input_file_name() like '%x'", "how the files happen to lie"),
        ("raise_error('x')", "only fails"),
    ],
)
def test_what_is_no_plain_condition_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidExpression) as caught:
        check_columns(text, ROWS.schema, what="where")

    assert reason in caught.value.message
    assert caught.value.message.startswith("where=")


@pytest.mark.parametrize(
    "text",
    ["exists(list, x -> x > 1)", "a.b[0] = 1", "cast(a as int) = 1", "ts < now()", "f(a) is null"],
)
def test_what_only_spark_can_evaluate_is_a_condition_all_the_same(text: str) -> None:
    schema = pa.schema({"list": pa.list_(pa.int64()), "a": pa.string(), "ts": pa.timestamp("us")})
    check_columns(text, schema, what="where")


@pytest.mark.parametrize("text", ["simbol = 'A'", "flag and lower(simbol) = 'a'"])
def test_an_unknown_column_is_named_with_what_may_be_meant(text: str) -> None:
    for check in (check_columns, translate, columns_in):
        with pytest.raises(InvalidExpression) as caught:
            check(text, ROWS.schema, what="where")
        assert "no column 'simbol' (did you mean 'Symbol'?)" in caught.value.message


def test_the_columns_of_a_condition_are_listed_as_the_table_spells_them() -> None:
    assert columns_in("SYMBOL = 'x' or f(Qty) > 1", ROWS.schema, what="where") == {"Symbol", "qty"}


def test_a_field_of_a_struct_is_not_taken_for_a_column() -> None:
    schema = pa.schema([("s", pa.struct([("f", pa.int64())]))])

    check_columns("s.f = 1", schema, what="where")
    with pytest.raises(InvalidExpression, match="no column 'f'"):
        check_columns("f = 1", schema, what="where")
