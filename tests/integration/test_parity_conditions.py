"""A law: a condition that native evaluates selects the rows that it selects in Spark."""

from __future__ import annotations

import datetime as dt
import secrets
from decimal import Decimal
from functools import partial

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deltaq.tasks.location import Location, make_folder
from deltaq.tasks.request import Delete
from deltaq.worker.engines import Commit, NotNative
from deltaq.worker.warm import WarmSpark
from tests.support.applying import Applier
from tests.support.places import files_in
from tests.support.twins import Twins

pytestmark = pytest.mark.timeout(300)

NOON = dt.datetime(2024, 1, 1, 12)
NAN = float("nan")
#: In four files of two rows, so that statistics tell which to read.
ROWS = pa.table(
    {
        "id": list(range(8)),
        "text": ["", "a", "A", "a%b_c", "x" * 40, "x" * 41, "日本", None],
        "part": ["a b", "x=y", "x=y", None, "a b", "x=y", "z", None],
        "num": pa.array([-(2**31), -1, 0, 1, 2, 7, 2**31 - 1, None], pa.int32()),
        "big": pa.array([-(2**63), 2**53, 2**53 + 1, 0, 1, 2**63 - 1, None, -1]),
        "price": [NAN, 1.0, -0.0, -0.0, 0.0, 2.5, None, float("-inf")],
        "ratio": pa.array([0.5, NAN, 0.1, -0.0, None, NAN, 2.5, 0.0], pa.float32()),
        "amount": pa.array(
            [
                *(Decimal("0.000000000000000001"), Decimal("-12345678901234567890.1"), None),
                *(Decimal("12345678901234567890.123456789012345678"), Decimal(0), Decimal("0.1")),
                *(Decimal("-0.1"), Decimal("12345678901234567890")),
            ],
            pa.decimal128(38, 18),
        ),
        "flag": [True, False, None, True, False, None, True, False],
        "day": pa.array(
            [dt.date(1, 1, 1), dt.date(1969, 12, 31), dt.date(2024, 1, 1), None] * 2, pa.date32()
        ),
        "ts": pa.array(
            [NOON, NOON.replace(microsecond=1), dt.datetime(1960, 1, 1, 0, 0, 0, 999), None] * 2,
            pa.timestamp("us", "UTC"),
        ),
        "naive": pa.array(
            [NOON, NOON.replace(microsecond=999), dt.datetime(2900, 1, 1), None] * 2,
            pa.timestamp("us"),
        ),
    }
)

LITERALS: dict[str, list[str]] = {
    "text": ["''", "'a'", '"A"', f"'{'x' * 40}'", "'日本'", "'z'"],
    "part": ["'a b'", "'x=y'", "'m'", "''"],
    "num": ["0", "-1", "2147483647", "7.0", "1.5", "'1'", "3000000000", "1e0"],
    "big": ["9007199254740992", "9007199254740993", "9223372036854775807", "-1", "0", "0.5"],
    "price": ["0", "-0.0", "1", "2.5", "-7", "0.1", "1e300", "double('NaN')"],
    "ratio": ["0", "0.5", "0.1", "2.5", "-1", "float('NaN')"],
    "amount": [
        *("0", "0.1", "-0.1", "0.000000000000000001", "-12345678901234567890.1"),
        *("12345678901234567890", "12345678901234567890.123456789012345678", "5e-1"),
    ],
    "flag": ["true", "false"],
    "day": ["'2024-01-01'", "DATE'1969-12-31'", "'0001-01-01'", "'2024-1-1'", "current_date()"],
    "ts": [
        *("'2024-01-01 12:00:00'", "TIMESTAMP'2024-01-01 12:00:00.000001'", "DATE'2024-01-01'"),
        *("'2024-01-01T13:00:00+01:00'", "'1960-01-01 00:00:00.000999'", "'2024-01-01'"),
    ],
    "naive": ["'2024-01-01 12:00:00'", "TIMESTAMP_NTZ'2900-01-01 00:00:00'", "'2024-01-01'"],
}
PAIRS = ["num < num", "price >= price", "price = ratio", "ts = ts", "text <> part", "day <=> day"]
ELSEWHERE = ["upper(text) = 'A'", "num + 1 > 0", "text RLIKE 'a'", "day = '2024-01-01' + 0"]


@st.composite
def predicates(draw: st.DrawFn) -> str:
    column = draw(st.sampled_from(list(LITERALS)))
    literal = st.sampled_from(LITERALS[column])
    shape = draw(st.sampled_from(["compare", "turned", "null", "between", "in", "other"]))
    word = draw(st.sampled_from(["=", "==", "<>", "!=", "<", "<=", ">", ">=", "<=>"]))
    no = draw(st.sampled_from(["", "NOT "]))
    match shape:
        case "compare":
            return f"{column} {word} {draw(literal)}"
        case "turned":
            return f"{draw(literal)} {word} {column.upper()}"
        case "null":
            return f"{column} IS {no}NULL"
        case "between":
            return f"{column} {no}BETWEEN {draw(literal)} AND {draw(literal)}"
        case "in":
            return f"{column} {no}IN ({', '.join(draw(st.lists(literal, min_size=1, max_size=3)))})"
    return draw(
        st.sampled_from(PAIRS + ELSEWHERE)
        | st.sampled_from(["flag", "flag IS TRUE", "flag IS NOT FALSE", "true", "false"])
        | st.sampled_from(["a%", "%", "_", "%b\\\\_c", ""]).map(lambda p: f"text {no}LIKE '{p}'")
    )


conditions = st.recursive(
    predicates(),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(" ".join)
        | inner.map(lambda c: f"NOT ({c})")
        | inner.map(lambda c: f"({c})")
    ),
    max_leaves=4,
)
quick = settings(
    max_examples=6,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def twins(module_place: Location, warm_spark: WarmSpark) -> Twins:
    made = Twins(module_place, warm_spark)
    for start in range(0, 8, 2):
        rows = ROWS.slice(start, 2)
        made.both(partial(Applier.append, rows=rows, partition_by=("part",)))
    return made


def selected(table: Applier, where: str) -> list[int] | str:
    """Return the ids of the rows that a table's engine selects, or the name of its error."""
    try:
        return sorted(table.read(where=where, columns=("id",))["id"].to_pylist())
    except NotNative:
        raise
    except Exception as exc:
        return type(exc).__name__


def test_conditions_select_the_same_rows_in_both_engines(
    twins: Twins, warm_spark: WarmSpark
) -> None:
    session = warm_spark.session(timeout=60)
    known: dict[str, list[int] | str | None] = {}

    def by_native(where: str) -> list[int] | str | None:
        if where not in known:
            try:
                known[where] = selected(twins.native, where)
            except NotNative:
                known[where] = None
            else:
                assert selected(twins.readers[0], where) == known[where], where
        return known[where]

    @quick
    @given(st.lists(conditions, min_size=40, max_size=60, unique=True))
    def law(drawn: list[str]) -> None:
        native = {where: ids for where in drawn if (ids := by_native(where)) is not None}
        # All at once: a query takes Spark half a second, whatever is in it.
        rows = session.read.format("delta").load(str(twins.spark.path))
        told = rows.selectExpr("id", *(f"({w}) IS TRUE" for w in native)).toArrow()
        for place, (where, ids) in enumerate(native.items(), 1):
            holds = told.column(place).to_pylist()
            assert ids == sorted(told["id"].filter(pa.array(holds)).to_pylist()), where

    law()
    assert sum(ids is not None for ids in known.values()) > 100


NUMBERS = [
    *("price > 2.5", "price = 0", "NOT (price < 100)", "price BETWEEN -1 AND 0", "ratio > 2.5"),
    *("amount > 12345678901234567890", "amount < -12345678901234567890", "amount = 0.1"),
    "amount = 12345678901234567890.123456789012345678",
]


def test_conditions_on_numbers_find_all_rows(twins: Twins) -> None:
    # delta-rs's statistics leave out NaN and round decimals; neither engine may trust them.
    told = {
        where: [selected(t, where) for t in (twins.native, *twins.readers)] for where in NUMBERS
    }

    assert [w for w, ids in told.items() if any(i != ids[0] for i in ids)] == []
    assert all(ids[0] for ids in told.values())


def test_what_only_spark_evaluates_is_not_native_and_spark_does(twins: Twins) -> None:
    for where in ("upper(text) = 'A'", "num = '1'", "price = double('NaN')", "text RLIKE '^a$'"):
        with pytest.raises(NotNative):
            selected(twins.native, where)
        assert selected(twins.spark, where) == selected(twins.readers[1], where) != []


@settings(quick, max_examples=3)
@given(conditions)
def test_a_delete_leaves_the_rows_that_its_condition_does_not_select(
    twins: Twins, place: Location, where: str
) -> None:
    before = list(range(8))
    copies = Twins(place / secrets.token_hex(4), twins.warm)
    for ours, theirs in ((copies.native, twins.native), (copies.spark, twins.spark)):
        for file in files_in(theirs.path):
            copy = ours.path / str(file).removeprefix(f"{theirs.path}/")
            make_folder(copy.parent)
            copy.write_bytes(file.read_bytes())

    def delete(table: Applier) -> Commit:
        return table.apply(table.stage(Delete, where=where), first=4)

    try:
        gone = selected(twins.native, where)
    except NotNative:
        with pytest.raises(NotNative):
            delete(copies.native)
        return

    copies.both(delete)

    left = copies.compare(columns=("id",))["id"].to_pylist()
    assert sorted(left) == [i for i in before if i not in gone]
