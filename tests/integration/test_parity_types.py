"""Every value of every type is the same whichever engine writes it, and whichever reads it."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from deltaq.tasks.errors import SchemaMismatch
from deltaq.tasks.request import Append
from deltaq.worker.engines import NotNative
from tests.support.twins import Twins

pytestmark = pytest.mark.timeout(300)

UTC, NO_ZONE = pa.timestamp("us", "UTC"), pa.timestamp("us")
NAN, INFINITE = float("nan"), float("inf")
#: Microseconds since 1970 of the first and the last moment that SQL's years reach.
YEAR_1, YEAR_9999 = -62_135_596_800_000_000, 253_402_300_799_999_999
IN_2900 = dt.datetime(2900, 1, 2, 3, 4, 5, 678_901)


def integers(bits: int) -> list[int | None]:
    return [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0, None]


EDGES = pa.table(
    {
        "id": pa.array([1, 2, 3, 4]),
        "int8": pa.array(integers(8), pa.int8()),
        "int16": pa.array(integers(16), pa.int16()),
        "int32": pa.array(integers(32), pa.int32()),
        "int64": pa.array(integers(64), pa.int64()),
        "float": pa.array([NAN, -INFINITE, -0.0, None], pa.float32()),
        "double": pa.array([NAN, INFINITE, -0.0, None], pa.float64()),
        "bool": pa.array([True, False, True, None]),
        "string": pa.array(["", "naïve 日本 \U0001f600", "'\"\\\n\t\x00", None]),
        "binary": pa.array([b"", b"\x00\xff", b"x", None], pa.binary()),
        "date": pa.array(
            [dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(1582, 10, 10), None], pa.date32()
        ),
        "decimal_38_0": pa.array(
            [Decimal("9" * 38), Decimal("-" + "9" * 38), Decimal(0), None], pa.decimal128(38, 0)
        ),
        "decimal_38_38": pa.array(
            [Decimal("1e-38"), Decimal("-0." + "9" * 38), Decimal(0), None], pa.decimal128(38, 38)
        ),
        "decimal_5_2": pa.array(
            [Decimal("12.34"), Decimal("-0.01"), Decimal(0), None], pa.decimal128(5, 2)
        ),
        "timestamp": pa.array([YEAR_1, YEAR_9999, IN_2900, None], UTC),
        "timestamp_ntz": pa.array([YEAR_1, YEAR_9999, IN_2900, None], NO_ZONE),
        "list": pa.array([[], [1, None], [2], None], pa.list_(pa.int64())),
        "struct": pa.array(
            [{"a": 1, "b": ""}, {"a": None, "b": None}, {"a": 2, "b": "x"}, None],
            pa.struct([("a", pa.int64()), ("b", pa.string())]),
        ),
        "map": pa.array(
            [[], [("a", 1.5), ("b", None)], [("", -0.0)], None], pa.map_(pa.string(), pa.float64())
        ),
        "deep": pa.array(
            [[{"x": [("k", [IN_2900, None])]}], [None], [], None],
            pa.list_(pa.struct([("x", pa.map_(pa.string(), pa.list_(UTC)))])),
        ),
    }
)


def test_every_value_survives_every_operation(twins: Twins) -> None:
    without_values = EDGES.select(["id", "int64"]).slice(0, 2)

    for act in (
        lambda t: t.append(EDGES),
        lambda t: t.append(without_values),
        lambda t: t.merge(EDGES.slice(1, 3), keys=("id",)),
        lambda t: t.delete("int32 = 0"),
        lambda t: t.overwrite(EDGES, where="id >= 1"),
    ):
        twins.both(act)

    for version in range(5):
        twins.compare(version=version)
    assert sorted(twins.compare(columns=("id",))["id"].to_pylist()) == [1, 2, 3, 4]
    twins.compare_details()


def test_moments_beyond_the_year_9999_are_the_same(twins: Twins) -> None:
    far = pa.table({"ts": pa.array([2**60, -(2**58)], UTC), "day": pa.array([2**26, -(2**22)])})
    far = far.set_column(1, "day", far["day"].cast(pa.int32()).cast(pa.date32()))

    twins.both(lambda t: t.append(far))

    found = twins.compare()
    assert sorted(found["ts"].cast(pa.int64()).to_pylist()) == [-(2**58), 2**60]


#: One column for each type that names a folder; the values meet in all their kinds.
PARTITIONS: dict[str, pa.Array] = {
    "text": pa.array(["a b", "x/y=z%20", "naïve 日本", " '\"\\:*?#{}[]~+&;\n\t", None, " A "]),
    "day": pa.array([dt.date(1, 1, 1), dt.date(2900, 2, 3), None, None, None, None]),
    "number": pa.array([-(2**63), 2**63 - 1, 0, None, None, None]),
    "small": pa.array([-128, 127, 0, None, None, None], pa.int8()),
    "flag": pa.array([True, False, None, None, None, None]),
    "moment": pa.array([IN_2900, 0, YEAR_1, None, None, None], UTC),
    "naive": pa.array([IN_2900, 0, YEAR_1, None, None, None], NO_ZONE),
}


def test_partitions_of_every_type_are_the_same(twins: Twins) -> None:
    rows = pa.table({"id": list(range(6)), **PARTITIONS})
    partition_by = tuple(PARTITIONS)

    twins.both(lambda t: t.append(rows, partition_by=partition_by))
    twins.both(lambda t: t.merge(rows.slice(0, 4), keys=("text", "day", "number")))
    twins.both(lambda t: t.merge(rows.slice(1, 4), keys=("id",)))
    twins.both(lambda t: t.overwrite(rows.slice(1, 1), where="text = 'x/y=z%20'"))
    twins.both(lambda t: t.delete("text = 'a b' AND day < '2000-01-01' AND flag"))

    twins.compare_versions()
    for where in ("text = 'x/y=z%20'", "day IS NULL", "moment = '1970-01-01 00:00:00'"):
        assert twins.compare(where=where, columns=("id",)).num_rows
    twins.compare_details()


@pytest.mark.parametrize(
    "values",
    [
        pa.array([Decimal("-0.1"), None], pa.decimal128(38, 18)),
        pa.array([1e300, NAN]),
        pa.array([0.1, None], pa.float32()),
    ],
    ids=lambda values: str(values.type),
)
def test_partitions_that_native_would_write_wrongly_are_for_spark(
    twins: Twins, values: pa.Array
) -> None:
    rows = pa.table({"p": values, "id": [1, 2]})
    for kind in ("append", "overwrite"):
        with pytest.raises(NotNative, match="partitioned by a"):
            getattr(twins.native, kind)(rows, partition_by=("p",))
    assert not twins.native.lake.exists("prices")

    twins.spark.append(rows, partition_by=("p",))

    native, _ = twins.readers
    assert str(native.rows("id", "p")) == str(twins.spark.rows("id", "p"))
    with pytest.raises(NotNative, match="partitioned by a") as caught:
        native.apply(native.stage(Append, rows), first=1)
    assert caught.value.of_table


@pytest.mark.parametrize("kind", ["append", "overwrite", "merge"])
def test_an_empty_text_in_a_partition_would_become_null_and_is_refused(
    twins: Twins, kind: str
) -> None:
    rows = pa.table({"p": ["a", ""], "id": [1, 2]})
    options: dict[str, Any] = {"keys": ("id",)} if kind == "merge" else {}

    error = twins.refused(lambda t: getattr(t, kind)(rows, partition_by=("p",), **options))
    assert isinstance(error, SchemaMismatch)
    twins.both(lambda t: t.append(rows.slice(0, 1), partition_by=("p",)))
    again = twins.refused(lambda t: getattr(t, kind)(rows, **options))

    assert again.message == error.message
    assert twins.compare().num_rows == 1
