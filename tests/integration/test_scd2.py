"""merge_scd2 keeps every version of a row as a plain model of it does, on both engines."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deltaq.tasks.errors import ConstraintViolated, DuplicateKeys, InvalidFrame, SchemaMismatch
from deltaq.tasks.location import Location
from deltaq.tasks.request import MergeScd2
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines import Commit, RowCounts
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.lake import Lake
from deltaq.worker.warm import WarmSpark
from tests.support.applying import Applier
from tests.support.twins import Act, Twins

pytestmark = pytest.mark.timeout(300)

UTC = pa.timestamp("us", "UTC")
NAMES = {"valid_from": "since", "valid_to": "until", "is_current": "current"}

Row = tuple[str, str | None, float | None]
#: Key, value, note, since, until, current.
Version = tuple[str, str | None, float | None, int, int | None, bool]

_fresh = itertools.count()


def frame(rows: list[Row], at: int | None = None) -> pa.Table:
    keys, values, notes = ([row[place] for row in rows] for place in range(3))
    columns: dict[str, Any] = {
        "k": pa.array(keys, pa.string()),
        "v": pa.array(values, pa.string()),
        "note": pa.array(notes, pa.float64()),
    }
    if at is not None:
        columns["since"] = pa.array([at] * len(rows), UTC)
    return pa.table(columns)


def merge(rows: pa.Table, **options: Any) -> Act:
    def act(table: Applier) -> Commit:
        return table.apply(table.stage(MergeScd2, rows, **{"keys": ("k",), **NAMES, **options}))

    return act


def versions(table: Applier) -> list[Version]:
    found = table.read(columns=("k", "v", "note", "since", "until", "current")).to_pydict()
    found["since"] = [_micros(moment) for moment in found["since"]]
    found["until"] = [moment and _micros(moment) for moment in found["until"]]
    return sorted(zip(*found.values(), strict=True), key=repr)


def _micros(moment: dt.datetime) -> int:
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


class Model:
    """The versions, kept by hand."""

    def __init__(self) -> None:
        self.versions: list[Version] = []

    def merge(self, rows: list[Row], at: int, *, notes_count: bool) -> RowCounts:
        inserted = updated = 0
        for key, value, note in rows:
            current = next((v for v in self.versions if v[0] == key and v[5]), None)
            if current is not None:
                same = current[1] == value and (not notes_count or current[2] == note)
                if same:
                    continue
                self.versions.remove(current)
                self.versions.append((*current[:4], at, False))
                updated += 1
            self.versions.append((key, value, note, at, None, True))
            inserted += 1
        return RowCounts(inserted=inserted, updated=updated, deleted=0)


frames = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from(["x", "y", None]),
        st.sampled_from([None, 0.0, 1.5]),
    ),
    max_size=4,
    unique_by=lambda row: row[0],
)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    merges=st.lists(frames, min_size=1, max_size=5),
    notes_count=st.booleans(),
    own_time=st.booleans(),
)
def test_versions_are_those_of_a_model(
    place: Location, merges: list[list[Row]], notes_count: bool, own_time: bool
) -> None:
    root = place / str(next(_fresh))
    table = Applier(NativeEngine(Lake(root), StagingArea(root / ".deltaq")), root)
    model = Model()

    for number, rows in enumerate(merges):
        at = 1_700_000_000_000_000 + number * 1000
        told = merge(
            frame(rows, at if own_time else None),
            track=None if notes_count else ("v",),
            submitted_at_ms=at // 1000,
        )(table)
        expected = model.merge(rows, at, notes_count=notes_count)
        assert told.counts == (expected,)
        assert told.version == number
        assert versions(table) == sorted(model.versions, key=repr)


ONE = [("a", "x", 1.0), ("b", None, float("nan")), ("c", "z", None)]
TWO = [("a", "x", 2.0), ("b", None, float("nan")), ("c", None, None), ("d", "new", -0.0)]


@pytest.mark.parametrize("partition_by", [None, ("v",)], ids=str)
def test_both_engines_keep_the_same_versions(
    place: Location, warm_spark: WarmSpark, partition_by: tuple[str, ...] | None
) -> None:
    twins = Twins(place, warm_spark)

    twins.both(merge(frame(ONE, 1000), partition_by=partition_by))
    told = twins.both(merge(frame(TWO, 2000)))
    again = twins.both(merge(frame(TWO, 3000)))
    # Without a time of their own: that of the request, but after the current version.
    twins.both(merge(frame([("a", "y", 3.0)]), track=("v",), submitted_at_ms=1))

    assert told.counts == (RowCounts(inserted=3, updated=2, deleted=0),)
    assert again.counts == (RowCounts(inserted=0, updated=0, deleted=0),)
    twins.compare_versions()
    assert twins.compare().num_rows == 7
    twins.compare_details()
    of_a = [v for v in versions(twins.native) if v[0] == "a"]
    assert [(v[3], v[4]) for v in sorted(of_a, key=lambda v: v[3])] == [
        (1000, 2000),
        (2000, 2001),
        (2001, None),
    ]


REFUSED: list[tuple[pa.Table, dict[str, Any], type[Exception], str]] = [
    (frame([("a", "x", 1.0), ("a", "y", 1.0)], 9), {}, DuplicateKeys, "more than one row with k="),
    (frame([("a", "other", 1.0)], 1000), {}, ConstraintViolated, "k='a' begins at"),
    (
        frame([("a", "x", 1.0)], 9).set_column(0, "k", pa.array([None], pa.string())),
        {},
        ConstraintViolated,
        "column 'k' is null in 1 rows",
    ),
    (
        frame([("a", "x", 1.0)]).append_column("since", pa.array([None], UTC)),
        {},
        ConstraintViolated,
        "column 'since' is null",
    ),
    (
        frame([("a", "x", 1.0)]).append_column("until", pa.array([1], UTC)),
        {},
        InvalidFrame,
        "'until' of table prices says when a version ended",
    ),
    (frame([("a", "x", 1.0)]).drop(["note"]), {}, SchemaMismatch, "lacks 'note'"),
    (frame([("a", "x", 1.0)], 9), {"is_current": "v2"}, SchemaMismatch, "has no column 'v2'"),
    (frame([("a", "x", 1.0)], 9), {"valid_to": "note"}, InvalidFrame, "'note' of table prices"),
    (frame([("a", "x", 1.0)], 9), {"keys": ("kk",)}, SchemaMismatch, "key column 'kk'"),
]


def test_what_is_no_version_is_refused_in_the_same_words(
    place: Location, warm_spark: WarmSpark
) -> None:
    twins = Twins(place, warm_spark)
    twins.both(merge(frame(ONE, 1000)))

    for rows, options, error, said in REFUSED:
        refused = twins.refused(merge(rows, **options))
        assert type(refused) is error, said
        assert said in refused.message
    assert twins.native.ledger() == twins.spark.ledger() == 0


def test_a_table_that_was_changed_by_something_else_is_left_alone(place: Location) -> None:
    table = Applier(NativeEngine(Lake(place), StagingArea(place / ".deltaq")), place)
    merge(frame(ONE, 1000))(table)
    table.append(table.read(where="k = 'a'"))

    with pytest.raises(ConstraintViolated, match="more than one version with 'current'"):
        merge(frame([("a", "y", 1.0)], 2000))(table)
    # Other keys are none of its business.
    told = merge(frame([("c", "y", 1.0)], 2000))(table)
    assert told.counts == (RowCounts(inserted=1, updated=1, deleted=0),)
