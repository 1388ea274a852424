"""Which engine does what, on real engines."""

from __future__ import annotations

import pyarrow as pa
import pytest

from deltaq.tasks.errors import EngineRefused
from deltaq.tasks.location import Location
from deltaq.tasks.request import Append, Delete, Lane, Merge, Request
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.engines.spark import SparkEngine
from deltaq.worker.engines.urls import spark_url
from deltaq.worker.groups import CommitGroup, Waiting
from deltaq.worker.lake import Lake
from deltaq.worker.router import Router
from deltaq.worker.warm import WarmSpark
from tests.support.requests import make_request, stage

ROWS = pa.table({"id": [1, 2], "price": [1.0, 2.0]})


class Bench:
    """Both engines on one lake, and a router of given settings."""

    def __init__(self, folder: Location, warm: WarmSpark | None = None) -> None:
        lake = Lake(folder / "lake")
        self.staging = StagingArea(folder / "staging")
        self.native = NativeEngine(lake, self.staging)
        self.spark = SparkEngine(warm, lake, self.staging) if warm else None
        self.folder = folder

    def router(self, **settings: object) -> Router:
        made = Settings.model_validate({"lake": self.folder / "lake", **settings})
        native = None if made.engine == "spark" else self.native
        return Router(native=native, spark=self.spark, settings=made)

    def group(self, sequence: int, kind: type[Request] = Append, **options: object) -> CommitGroup:
        request = make_request(kind, "prices", **options)
        stage(self.staging, request, None if kind is Delete else ROWS)
        member = Waiting(sequence=sequence, request=request)
        return CommitGroup(
            table="prices", lane=Lane.LIVE, app_id="deltaq/e/live", members=(member,)
        )


def test_small_work_goes_to_native(place: Location) -> None:
    bench = Bench(place)

    performed = bench.router().apply(bench.group(1))

    assert (performed.engine, performed.reason) == ("native", "small enough")


def test_work_that_touches_too_much_is_refused_by_native_with_size_and_setting(
    place: Location,
) -> None:
    bench = Bench(place)
    bench.router().apply(bench.group(1))
    router = bench.router(engine="native", native_max_bytes=200)

    router.apply(bench.group(2))  # an append does not read the table
    with pytest.raises(EngineRefused, match="native_max_bytes=200") as caught:
        router.apply(bench.group(3, Merge, keys=("id",)))

    assert caught.value.details["touched_bytes"] > 200


def test_work_that_needs_spark_is_refused_where_spark_is_off(place: Location) -> None:
    bench = Bench(place)
    router = bench.router(spark="off", native_max_bytes=50)

    with pytest.raises(EngineRefused, match="spark=off"):
        router.apply(bench.group(1))
    with pytest.raises(EngineRefused, match="asks for it"):
        router.apply(bench.group(1, engine="spark"))


def test_work_that_touches_too_much_goes_to_spark(place: Location, warm_spark: WarmSpark) -> None:
    bench = Bench(place, warm_spark)
    router = bench.router(native_max_bytes=50)

    performed = router.apply(bench.group(1))

    assert performed.engine == "spark"
    assert "native_max_bytes=50" in performed.reason


def test_a_table_that_native_cannot_write_falls_to_spark_and_is_remembered(
    place: Location, warm_spark: WarmSpark
) -> None:
    bench = Bench(place, warm_spark)
    session = warm_spark.session(60)
    session.sql(
        f"CREATE TABLE delta.`{spark_url(place)}/lake/prices` (id LONG, price DOUBLE) USING delta "
        "TBLPROPERTIES (delta.enableRowTracking = true)"
    )
    router = bench.router()

    performed = router.apply(bench.group(1))

    assert performed.engine == "spark"
    assert router.choose(bench.group(2)).reason == performed.reason


def test_a_table_that_keeps_needing_spark_stays_with_it(
    place: Location, warm_spark: WarmSpark
) -> None:
    bench = Bench(place, warm_spark)
    router = bench.router()
    assert router.apply(bench.group(1)).engine == "native"

    router.apply(bench.group(2, engine="spark"))
    assert router.choose(bench.group(3)).engine.name == "native"
    router.apply(bench.group(3, engine="spark"))

    choice = router.choose(bench.group(4))
    assert choice.engine.name == "spark"
    assert "taking turns" in choice.reason
