"""Tables with features of Delta: the same rows from both engines, or from Spark with the reason."""

from __future__ import annotations

from functools import partial

import pyarrow as pa
import pytest

from deltaq.tasks.errors import ConstraintViolated
from deltaq.tasks.request import Append
from deltaq.tasks.settings import Settings
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.engines.spark import SparkEngine
from deltaq.worker.router import Router
from deltaq.worker.warm import WarmSpark
from tests.support.applying import Applier
from tests.support.twins import Act, Twins, canonical

pytestmark = pytest.mark.timeout(300)


def rows(*rows: tuple[int | None, str | None, int | None]) -> pa.Table:
    columns = zip(*rows, strict=True)
    types = {"k": pa.int64(), "v": pa.string(), "w": pa.int64()}
    return pa.table({n: pa.array(c, t) for (n, t), c in zip(types.items(), columns, strict=True)})


def change(twins: Twins) -> None:
    """Do a little of everything."""
    twins.both(lambda t: t.append(rows((1, "a", 1), (2, "b", 2), (3, "c", 3))))
    twins.both(lambda t: t.merge(rows((2, "B", 20), (4, "d", 4)), keys=("k",)))
    twins.both(
        lambda t: t.merge(
            rows((1, None, None), (4, None, None)), keys=("k",), update=(), delete_when="k = 4"
        )
    )
    twins.both(lambda t: t.overwrite(rows((3, "C", 30)), where="k = 3"))
    twins.both(lambda t: t.delete("k = 1"))


@pytest.mark.parametrize(
    "properties",
    [
        "delta.enableDeletionVectors = true, delta.enableChangeDataFeed = true",
        "delta.columnMapping.mode = 'name', delta.checkpointPolicy = 'v2'",
    ],
)
def test_features_that_both_engines_write_change_nothing(twins: Twins, properties: str) -> None:
    twins.sql(
        "CREATE TABLE {table} (k BIGINT, v STRING, w BIGINT) USING delta "
        f"TBLPROPERTIES ({properties})"
    )

    change(twins)

    twins.compare_versions()
    assert canonical(twins.compare()) == canonical(rows((2, "B", 20), (3, "C", 30)))
    twins.compare_details()
    if "ChangeDataFeed" in properties:
        changes = twins.changes(twins.native)
        assert changes == twins.changes(twins.spark)
        assert any("update_preimage" in line for line in changes)


def test_a_renamed_column_keeps_its_values(twins: Twins) -> None:
    twins.sql(
        "CREATE TABLE {table} (k BIGINT, old STRING, w BIGINT, `p q` STRING) USING delta "
        "PARTITIONED BY (`p q`) TBLPROPERTIES (delta.columnMapping.mode = 'name')"
    )
    frame = rows((1, "a", 1), (2, "b", 2)).append_column("p q", pa.array(["x", None]))
    twins.both(lambda t: t.append(frame.rename_columns(["k", "old", "w", "p q"])))

    twins.sql("ALTER TABLE {table} RENAME COLUMN old TO v")
    twins.sql("ALTER TABLE {table} DROP COLUMN w")
    feed = frame.drop_columns(["w"])
    twins.both(lambda t: t.merge(feed.slice(1, 1), keys=("v",)))
    twins.both(lambda t: t.delete("`p q` = 'x'"))

    assert twins.compare().to_pylist() == [{"k": 2, "v": "b", "p q": None}]


NOT_NULL = (
    "CREATE TABLE {table} (k BIGINT NOT NULL, v STRING, w BIGINT) USING delta "
    "TBLPROPERTIES (delta.constraints.positive = 'w > 0')"
)


def test_rows_that_break_a_rule_are_refused_in_the_same_words(twins: Twins) -> None:
    twins.sql(NOT_NULL)
    twins.both(lambda t: t.append(rows((1, "a", 1), (2, None, 2))))
    lacking = rows((None, "a", 5)).drop_columns(["k"])
    broken: list[tuple[pa.Table, str]] = [
        (rows((3, "c", 3), (None, "n", 1)), "column 'k' is null"),
        (rows((1, "a", -1)), "a row breaks a rule: positive (w > 0)"),
    ]

    acts: list[tuple[Act, str]] = [
        (act, said)
        for frame, said in broken
        for act in (
            partial(Applier.append, rows=frame),
            partial(Applier.overwrite, rows=frame),
            partial(Applier.merge, rows=frame, keys=("k",)),
        )
    ]
    acts.append((partial(Applier.append, rows=lacking), "lacks 'k'"))
    acts.append((partial(Applier.merge, rows=lacking, keys=("v",), update=("w",)), "lacks 'k'"))
    for act, said in acts:
        error = twins.refused(act)
        assert isinstance(error, ConstraintViolated)
        assert said in error.message

    assert twins.compare().num_rows == 2
    twins.compare_details()


def test_an_append_only_table_refuses_deletes_and_takes_appends(twins: Twins) -> None:
    twins.sql(
        "CREATE TABLE {table} (k BIGINT, v STRING, w BIGINT) USING delta "
        "TBLPROPERTIES (delta.appendOnly = true)"
    )
    twins.both(lambda t: t.append(rows((1, "a", 1))))

    for act in (
        lambda t: t.delete("k = 1"),
        lambda t: t.overwrite(rows((1, "a", 1))),
        lambda t: t.merge(rows((1, "A", 1)), keys=("k",)),
    ):
        error = twins.refused(act)
        assert isinstance(error, ConstraintViolated)
        assert "append-only" in error.message

    twins.both(lambda t: t.merge(rows((2, "b", 2)), keys=("k",), update=()))
    assert twins.compare().num_rows == 2


FOR_SPARK = {
    "rowTracking": "(k BIGINT, v STRING, w BIGINT) USING delta "
    "TBLPROPERTIES (delta.enableRowTracking = true)",
    "inCommitTimestamp": "(k BIGINT, v STRING, w BIGINT) USING delta "
    "TBLPROPERTIES (delta.enableInCommitTimestamps = true)",
    "clustering": "(k BIGINT, v STRING, w BIGINT) USING delta CLUSTER BY (k)",
    "identity columns": "(id BIGINT GENERATED BY DEFAULT AS IDENTITY, k BIGINT, v STRING, "
    "w BIGINT) USING delta",
    "generated columns": "(k BIGINT, v STRING, w BIGINT, "
    "twice BIGINT GENERATED ALWAYS AS (k * 2)) USING delta",
    "columns with defaults": "(k BIGINT, v STRING, w BIGINT, x BIGINT DEFAULT 7) USING delta "
    "TBLPROPERTIES (delta.feature.allowColumnDefaults = 'supported')",
    "char and varchar columns": "(k BIGINT, v VARCHAR(5), w BIGINT) USING delta",
    "constraint even is for Spark": "(k BIGINT, v STRING, w BIGINT) USING delta "
    "TBLPROPERTIES (delta.constraints.even = 'k % 2 = 0 OR k > 0')",
}


@pytest.mark.parametrize("reason", FOR_SPARK)
def test_what_native_does_not_write_goes_to_spark_with_the_reason(
    twins: Twins, warm_spark: WarmSpark, reason: str
) -> None:
    table, native = twins.spark, twins.readers[0]
    warm_spark.session(60).sql(f"CREATE TABLE delta.`{table.path}` {FOR_SPARK[reason]}")
    settings = Settings.model_validate({"lake": table.lake.root})
    assert isinstance(native.engine, NativeEngine)
    assert isinstance(table.engine, SparkEngine)
    router = Router(native=native.engine, spark=table.engine, settings=settings)

    performed = router.apply(table.group(table.stage(Append, rows((1, "a", 1), (2, "b", 2)))))

    assert performed.engine == "spark"
    assert reason in performed.reason
    # To read it native is good enough.
    assert canonical(native.read()) == canonical(table.read())
    assert native.rows("k", "v", "w") == [(1, "a", 1), (2, "b", 2)]
