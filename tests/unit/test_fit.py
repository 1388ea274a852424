import datetime as dt
import math
from collections.abc import Callable
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaq.tasks.errors import DuplicateKeys, InvalidFrame, SchemaMismatch, StagedDataMissing
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines import fit
from deltaq.worker.engines.delta_types import Misfit, bridge_type
from tests.support.paths import as_path
from tests.support.requests import make_append
from tests.support.requests import stage as stage_rows

Stage = Callable[[pa.Table], Path]

UTC = pa.timestamp("us", "UTC")
NAIVE = pa.timestamp("us")
TABLE = pa.schema(
    [
        pa.field("symbol", pa.string(), nullable=False),
        ("ts", UTC),
        ("qty", pa.int64()),
        ("price", pa.float64()),
    ]
)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    def write(table: pa.Table) -> Path:
        area, request = StagingArea(tmp_path), make_append()
        stage_rows(area, request, table)
        return as_path(area.request_path(request.table, request.request_id))

    return write


def fit_one(stage: Stage, array: pa.Array, target: pa.DataType) -> pa.ChunkedArray:
    table = pa.schema([("x", target)])
    path = stage(pa.table({"x": array}))
    schema = fit.fit_schema(pq.read_schema(path), table, name="t")
    return pa.Table.from_batches(fit.fitted_batches([path], schema), schema)["x"]


def test_columns_come_in_the_tables_order_and_types_and_missing_ones_are_left_out() -> None:
    frame = pa.schema([("qty", pa.int32()), ("symbol", pa.large_string())])

    assert fit.fit_schema(frame, TABLE, name="t") == pa.schema(
        [("symbol", pa.string()), ("qty", pa.int64())]
    )


def test_all_unknown_columns_are_named_with_what_may_be_meant() -> None:
    frame = pa.schema([("Symbol", pa.string()), ("prize", pa.float64()), ("zzz", pa.int64())])

    with pytest.raises(SchemaMismatch) as caught:
        fit.fit_schema(frame, TABLE, name="t")

    assert "'Symbol' is not in it (did you mean 'symbol'?)" in caught.value.message
    assert "'prize' is not in it (did you mean 'price'?)" in caught.value.message
    assert "'zzz' is not in it" in caught.value.message
    assert caught.value.details["extra"] == ["Symbol", "prize", "zzz"]


def test_allowed_extra_columns_come_last_with_a_type_of_their_own() -> None:
    frame = pa.schema([("op", pa.dictionary(pa.int8(), pa.string())), ("qty", pa.int64())])

    fitted = fit.fit_schema(frame, TABLE, name="t", extra_allowed=frozenset({"op"}))

    assert fitted == pa.schema([("qty", pa.int64()), ("op", pa.string())])


def test_all_types_that_never_fit_are_named() -> None:
    frame = pa.schema([("qty", pa.string()), ("ts", pa.date32()), ("price", pa.int64())])

    with pytest.raises(SchemaMismatch) as caught:
        fit.fit_schema(frame, TABLE, name="t")

    assert caught.value.details["problems"] == [
        "column 'qty': string does not fit bigint",
        "column 'ts': date does not fit timestamp",
    ]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (pa.string(), pa.int64()),
        (pa.int64(), pa.string()),
        (pa.bool_(), pa.int32()),
        (pa.date32(), NAIVE),
        (NAIVE, UTC),
        (UTC, NAIVE),
        (pa.float64(), pa.decimal128(10, 2)),
        (pa.binary(), pa.string()),
        (pa.list_(pa.string()), pa.list_(pa.int32())),
        (pa.struct([("a", pa.int32()), ("b", pa.int32())]), pa.struct([("a", pa.int32())])),
        (pa.float16(), pa.int32()),
    ],
    ids=str,
)
def test_a_cast_that_needs_a_guess_is_refused(source: pa.DataType, target: pa.DataType) -> None:
    with pytest.raises(Misfit):
        bridge_type(source, target)


@pytest.mark.parametrize(
    ("array", "target"),
    [
        (pa.array([1, None, -128]), pa.int8()),
        (pa.array([7], pa.uint64()), pa.int16()),
        (pa.array([2**53]), pa.float64()),
        (pa.array([12]), pa.decimal128(10, 2)),
        (pa.array([1.0, None]), pa.int64()),
        (pa.array([0.5, math.inf, None], pa.float32()), pa.float64()),
        (pa.array([0.5, None]), pa.float32()),
        (pa.array([Decimal("1.50")]), pa.decimal128(38, 18)),
        (pa.array([Decimal("1.50")], pa.decimal256(60, 2)), pa.decimal128(10, 1)),
        (pa.array([1_000], pa.timestamp("ns")), NAIVE),
        (pa.array([1], pa.timestamp("s", "Europe/Amsterdam")), UTC),
        (pa.array(["a", None, "a"]).dictionary_encode(), pa.string()),
        (pa.array([b"ab"], pa.binary(2)), pa.binary()),
        (pa.nulls(2), pa.list_(pa.int64())),
        (pa.array([[1, 2], None], pa.large_list(pa.int64())), pa.list_(pa.float32())),
        (
            pa.array([{"b": 2, "a": [("k", 1)]}], pa.struct(
                [("b", pa.int64()), ("a", pa.map_(pa.large_string(), pa.int64()))]
            )),
            pa.struct([("a", pa.map_(pa.string(), pa.decimal128(9, 0))), ("b", pa.int8())]),
        ),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)  # fmt: skip
def test_a_value_is_cast_when_it_stays_equal(
    stage: Stage, array: pa.Array, target: pa.DataType
) -> None:
    fitted = fit_one(stage, array, target)

    assert fitted.type == target
    assert fitted.to_pylist() == array.to_pylist()


@pytest.mark.parametrize(
    ("array", "target", "named"),
    [
        (pa.array([1, 2, 300, 400]), pa.int8(), "300 does not fit tinyint"),
        (pa.array([2**53 + 1]), pa.float64(), "9007199254740993 does not fit double"),
        (pa.array([1.0, 1.5]), pa.int64(), "1.5 does not fit bigint"),
        (pa.array([2.0**60]), pa.int64(), "does not fit bigint"),
        (pa.array([math.nan]), pa.int64(), "nan does not fit bigint"),
        (pa.array([0.5, 0.1]), pa.float32(), "0.1 does not fit float"),
        (pa.array([1e300]), pa.float32(), "1e+300 does not fit float"),
        (pa.array([[0.5], [0.1]]), pa.list_(pa.float32()), "[0.1] does not fit array<float>"),
        (
            pa.array([{"a": 0.1}]),
            pa.struct([("a", pa.float32())]),
            "{'a': 0.1} does not fit struct<a:float>",
        ),
        (
            pa.array([[("k", 0.1)]], pa.map_(pa.string(), pa.float64())),
            pa.map_(pa.string(), pa.float32()),
            "[('k', 0.1)] does not fit map<string,float>",
        ),
        (pa.array([12345]), pa.decimal128(4, 0), "12345 does not fit decimal(4,0)"),
        (pa.array([Decimal("1.239")]), pa.decimal128(10, 2), "does not fit decimal(10,2)"),
        (pa.array([1_001], pa.timestamp("ns")), NAIVE, "does not fit timestamp_ntz"),
        (pa.array([2**60], pa.timestamp("ms", "UTC")), UTC, "does not fit timestamp"),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_a_value_that_would_change_is_named(
    stage: Stage, array: pa.Array, target: pa.DataType, named: str
) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        fit_one(stage, array, target)

    assert named in caught.value.message
    assert "column 'x'" in caught.value.message


_SOURCES: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.int64(), st.integers(-300, 300)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float64(), st.floats()),
    (pa.float64(), st.integers(-(2**64), 2**64).map(float)),
    (pa.float32(), st.floats(width=32)),
    (pa.decimal128(38, 6), st.decimals(-(10**9), 10**9, places=6)),
    (pa.timestamp("ns"), st.integers(-(2**62), 2**62).map(lambda n: n // 1000 * 1000)),
    (pa.timestamp("ms", "UTC"), st.integers(-(10**12), 10**12)),
]
_TARGETS = [
    *(pa.int8(), pa.int32(), pa.int64(), pa.float32(), pa.float64()),
    *(pa.decimal128(4, 2), pa.decimal128(20, 2), pa.decimal128(38, 10), NAIVE, UTC, pa.string()),
]


@settings(max_examples=300, deadline=None)
@given(data=st.data(), source=st.sampled_from(_SOURCES), target=st.sampled_from(_TARGETS))
@pytest.mark.parametrize("nested", [False, True])
def test_a_fitted_value_equals_the_original_or_an_error_is_raised(
    nested: bool, data: st.DataObject, source: tuple[pa.DataType, Any], target: pa.DataType
) -> None:
    kind, values = source
    before = pa.array(data.draw(st.lists(values | st.none(), min_size=1, max_size=5)), kind)
    array = pa.array([{"x": [v]} for v in before], pa.struct([("x", pa.list_(kind))]))
    wanted = pa.struct([("x", pa.list_(pa.field("element", target)))])
    frame, field = (array, wanted) if nested else (before, target)
    try:
        schema = fit.fit_schema(pa.schema([("x", frame.type)]), pa.schema([("x", field)]), name="t")
        fitted = fit.fit_batch(pa.record_batch({"x": frame}), schema).column(0)
    except SchemaMismatch:
        return
    after = fitted.field("x").flatten() if nested else fitted
    for one, other in zip(before, after, strict=True):
        assert same_value(one, other), f"{one!r} became {other!r}"


def same_value(before: pa.Scalar, after: pa.Scalar) -> bool:
    if before.is_valid and pa.types.is_timestamp(before.type):
        factor = {"ns": 1, "us": 1_000, "ms": 1_000_000}
        return bool(before.value * factor[before.type.unit] == after.value * 1_000)
    one, other = before.as_py(), after.as_py()
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return bool(one == other)


def test_a_new_table_takes_the_frames_types_in_deltas_terms() -> None:
    frame = pa.schema(
        [
            pa.field("a", pa.large_string(), nullable=False),
            ("b", pa.timestamp("ns", "Europe/Amsterdam")),
            ("c", pa.timestamp("s")),
            ("d", pa.decimal32(5, 2)),
            ("e", pa.list_(pa.struct([("f", pa.dictionary(pa.int8(), pa.string()))]))),
        ]
    )

    assert fit.fit_schema(frame, None, name="t") == pa.schema(
        [
            ("a", pa.string()),
            ("b", UTC),
            ("c", NAIVE),
            ("d", pa.decimal128(5, 2)),
            ("e", pa.list_(pa.field("element", pa.struct([("f", pa.string())])))),
        ]
    )


@pytest.mark.parametrize(
    "kind",
    [
        pa.null(),
        pa.time64("us"),
        pa.duration("us"),
        pa.float16(),
        pa.decimal256(50, 2),
        pa.uint32(),
        pa.month_day_nano_interval(),
        pa.dense_union([pa.field("a", pa.int8())]),
        pa.struct([]),
        pa.list_(pa.null()),
        pa.struct([("a", pa.int8()), ("A", pa.int8())]),
    ],
    ids=str,
)
def test_a_new_table_refuses_types_that_delta_does_not_have(kind: pa.DataType) -> None:
    with pytest.raises(InvalidFrame, match="column 'x'"):
        fit.fit_schema(pa.schema([("x", kind)]), None, name="t")


def test_a_column_of_nulls_takes_the_tables_type_but_cannot_make_a_column() -> None:
    frame = pa.schema([("price", pa.null())])

    assert fit.fit_schema(frame, TABLE, name="t").field("price").type == pa.float64()
    with pytest.raises(InvalidFrame, match="only nulls: give it a type"):
        fit.fit_schema(frame, None, name="t")


@pytest.mark.parametrize("table", [None, TABLE])
def test_no_columns_and_clashing_names_are_refused(table: pa.Schema | None) -> None:
    with pytest.raises(InvalidFrame, match="no columns"):
        fit.fit_schema(pa.schema([]), table, name="t")
    with pytest.raises(InvalidFrame, match="more than one column called 'price'"):
        fit.fit_schema(pa.schema([("price", pa.int8()), ("Price", pa.int8())]), table, name="t")


@pytest.mark.parametrize("column", ["", "Adj Close", "a=b", "a;b"])
def test_a_new_table_refuses_names_that_delta_cannot_hold(column: str) -> None:
    with pytest.raises(InvalidFrame, match="a name is not empty"):
        fit.fit_schema(pa.schema([(column, pa.int8())]), None, name="t")


def test_batches_come_in_the_order_of_the_files_and_rows(stage: Stage) -> None:
    paths = [stage(pa.table({"x": pa.array([n, n + 1], pa.int32())})) for n in (0, 2, 4)]
    schema = pa.schema([("x", pa.int64())])

    batches = list(fit.fitted_batches(paths, schema))

    assert pa.Table.from_batches(batches, schema)["x"].to_pylist() == [0, 1, 2, 3, 4, 5]


def test_a_large_file_comes_in_pieces(stage: Stage) -> None:
    path = stage(pa.table({"x": pa.array(range(200_000))}))

    batches = list(fit.fitted_batches([path], pa.schema([("x", pa.int64())])))

    assert max(b.num_rows for b in batches) < 100_000
    assert sum(b.num_rows for b in batches) == 200_000


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(StagedDataMissing):
        list(fit.fitted_batches([tmp_path / "gone.parquet"], pa.schema([("x", pa.int64())])))


def test_repeated_keys_are_named_up_to_three(stage: Stage) -> None:
    day = dt.date(2024, 1, 2)
    path = stage(pa.table({"symbol": list("aabbccddz"), "day": [day] * 9, "x": list(range(9))}))

    with pytest.raises(DuplicateKeys) as caught:
        fit.check_unique_keys([path], ["symbol", "day"], name="t")

    assert len(caught.value.details["keys"]) == 3
    assert caught.value.details["keys"][0] == {"symbol": "a", "day": "2024-01-02"}
    assert "and 1 more" in caught.value.message


def test_keys_repeat_across_files(stage: Stage) -> None:
    paths = [stage(pa.table({"k": [1, 2]})), stage(pa.table({"k": [3, 1]}))]

    with pytest.raises(DuplicateKeys, match="k=1"):
        fit.check_unique_keys(paths, ["k"], name="t")


def test_rows_with_a_null_key_are_exempt(stage: Stage) -> None:
    path = stage(pa.table({"a": [None, None, 1, 1], "b": [1, 1, None, 2]}))

    fit.check_unique_keys([path], ["a", "b"], name="t")


_KEY = st.none() | st.integers(0, 3)


@given(rows=st.lists(st.tuples(_KEY, st.sampled_from([None, "a", "b"]))), ascend=st.booleans())
@settings(max_examples=100, deadline=None)
def test_rows_in_whatever_order_are_told_apart_by_all_their_keys(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]], ascend: bool
) -> None:
    rows = sorted(rows, key=str) if ascend else rows
    whole = [row for row in rows if None not in row]
    area, request = StagingArea(tmp_path_factory.mktemp("keys")), make_append()
    columns = zip(*rows, strict=True) if rows else ([], [])
    arrays = [pa.array(c, t) for c, t in zip(columns, (pa.int64(), pa.string()), strict=True)]
    stage_rows(area, request, pa.table(arrays, names=["a", "b"]))
    path = area.request_path(request.table, request.request_id)

    with pytest.raises(DuplicateKeys) if len(set(whole)) < len(whole) else nullcontext():
        fit.check_unique_keys([path], ["a", "b"], name="t")


@pytest.mark.parametrize(
    "array",
    [
        pa.array([0.0, -0.0]),
        pa.array([-0.0, 0.0]),
        pa.array([math.nan, math.nan]),
        pa.array([1.0, math.nan, math.nan]),
        pa.array([Decimal("1.0"), Decimal("1.0")]),
        pa.array(["x", "x"]).dictionary_encode(),
        pa.array([b"x", b"x"], pa.large_binary()),
        pa.array([1.5, 1.5], pa.float16()),
        pa.array([True, True]),
        pa.array([1, 1], UTC),
    ],
    ids=lambda array: str(array.type),
)
def test_equal_keys_of_any_type_are_found(stage: Stage, array: pa.Array) -> None:
    with pytest.raises(DuplicateKeys):
        fit.check_unique_keys([stage(pa.table({"k": array}))], ["k"], name="t")


def test_missing_keys_are_named_with_what_may_be_meant() -> None:
    frame = pa.schema([("symbol", pa.string()), ("tss", pa.int64())])

    with pytest.raises(SchemaMismatch) as caught:
        fit.check_keys_present(frame, TABLE, ["simbol", "tss"], name="t")

    assert caught.value.details["problems"] == [
        "key column 'simbol' is not in the frame (did you mean 'symbol'?)",
        "key column 'simbol' is not in the table (did you mean 'symbol'?)",
        "key column 'tss' is not in the table (did you mean 'ts'?)",
    ]


def test_nested_columns_cannot_be_keys() -> None:
    frame = pa.schema([("k", pa.list_(pa.int64()))])

    with pytest.raises(SchemaMismatch, match="array<bigint>, which cannot be a key"):
        fit.check_keys_present(frame, None, ["k"], name="t")
