"""What a read may ask for, from the client to real tables and back."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable

from deltaq.client import (
    AsyncClient,
    Client,
    Future,
    InvalidExpression,
    InvalidRequest,
    Outcome,
    SchemaMismatch,
    State,
    VersionNotFound,
    VersionNotReached,
    to_pandas,
)
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.lake import Lake
from tests.support.applying import Applier
from tests.support.player import Player
from tests.support.reading import ReadingWorker
from tests.support.waiting import wait_until

NOON = dt.datetime(2024, 5, 31, 12, tzinfo=dt.UTC)
ROWS = pa.table(
    {
        "symbol": ["A", "it's \\", None, "D"],
        "n": [1, 2**60 + 1, None, -4],
        "price": [1.5, None, -2.0, 1e300],
        "amount": pa.array([Decimal("1.10"), None, Decimal("-2.25"), Decimal("0.00")]),
        "ts": pa.array([NOON, None, NOON + dt.timedelta(hours=1), NOON], pa.timestamp("us", "UTC")),
        "day": [dt.date(2024, 5, 31), None, dt.date(1999, 1, 1), dt.date(2024, 6, 1)],
        "up": [True, None, False, True],
        "a`c": [0, 1, 2, 3],
    }
)
field = pc.field


@pytest.fixture
def client(settings: Settings, worker: ReadingWorker) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


@pytest.fixture
def prices(settings: Settings) -> Applier:
    engine = NativeEngine(Lake(settings.lake), StagingArea(settings.staging_root))
    return Applier(engine, settings.lake)


@pytest.mark.parametrize(
    "where",
    [
        field("n") > 0,
        field("n") == 2**60 + 1,
        (field("price") >= 1.5) & (field("n") < 10),
        (field("price") < 0) | field("n").is_null(),
        field("symbol") == "it's \\",
        field("symbol") != "A",
        ~(field("symbol") == "A"),
        field("symbol").isin(["A", "D"]),
        ~field("symbol").isin(["A", "D"]),
        field("n").isin([1, None]),
        field("amount") == Decimal("1.10"),
        field("ts") >= NOON + dt.timedelta(minutes=1),
        field("ts") == dt.datetime(2024, 5, 31, 14, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        field("day") > dt.date(2024, 1, 1),
        field("up") == True,  # noqa: E712
        field("up").is_valid(),
        field("a`c") <= 1,
        pc.scalar(True),
    ],
    ids=str,
)
def test_an_expression_of_pyarrow_selects_what_pyarrow_selects(
    client: Client, prices: Applier, where: pc.Expression
) -> None:
    prices.append(ROWS)
    found = client.read("prices", where=where, columns="a`c").result(timeout=20)
    assert sorted(found["a`c"].to_pylist()) == ROWS.filter(where)["a`c"].to_pylist()


def test_all_conditions_of_a_list_hold(client: Client, prices: Applier) -> None:
    prices.append(ROWS)
    where = ["n > 0 or price > 0 -- either", field("symbol") != "A", "day is not null"]
    found = client.read("prices", where=where).result(timeout=20)
    assert found["symbol"].to_pylist() == ["D"]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (field("n") + 1 > 2, r"add_checked\(\).*SQL text"),
        (pc.equal(field("price"), float("nan")), "literal nan"),
        (field("n") == pc.scalar(None), "literal None"),
        (field(0) == 1, "SQL text"),
        ([], "list of them"),
        ("  ", "SQL expression"),
        (["n > 1", ""], "SQL expression"),
        (7, "pyarrow expression"),
    ],
)
def test_what_is_no_condition_is_refused_with_what_to_write(
    client: Client, where: Any, said: str
) -> None:
    with pytest.raises(InvalidExpression, match=said):
        client.read("prices", where=where)


def test_a_version_outside_those_that_are_kept_is_an_error_with_the_range(
    client: Client, prices: Applier
) -> None:
    for _ in range(5):
        prices.append(ROWS)
    DeltaTable(str(prices.path)).create_checkpoint()
    for version in range(3):
        (prices.path / "_delta_log" / f"{version:020d}.json").unlink()

    with pytest.raises(VersionNotFound, match="no version 2; it keeps versions 4 to 4"):
        client.read("prices", version=2).result(timeout=20)
    with pytest.raises(VersionNotFound, match="no version 9; it keeps versions 4 to 4") as caught:
        client.read("prices", version=9).result(timeout=20)
    assert caught.value.details == {"oldest": 4, "newest": 4}
    assert client.read("prices", version=4).result(timeout=20).num_rows == 20


def test_a_time_before_the_table_is_an_error_that_says_when_it_began(
    client: Client, prices: Applier
) -> None:
    prices.append(ROWS)
    for early in ("2001-01-01", dt.datetime(2001, 1, 1)):
        with pytest.raises(VersionNotFound, match="begins later, with version 0 at 20"):
            client.read("prices", timestamp=early).result(timeout=20)
    now = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
    assert client.read("prices", timestamp=now).result(timeout=20).num_rows == 4


def test_a_read_waits_for_the_version_it_needs(client: Client, prices: Applier) -> None:
    prices.append(ROWS)
    future = client.read("prices", min_version=1)
    # Others are answered meanwhile: waiting keeps nothing busy.
    assert client.read("prices", min_version=0).result(timeout=20).num_rows == 4
    assert not future.done()

    prices.append(ROWS)
    assert future.result(timeout=20).num_rows == 8


def test_a_read_waits_for_a_table_that_is_not_there_yet(client: Client, prices: Applier) -> None:
    future = client.read("prices", min_version=0)
    client.tables()
    prices.append(ROWS)
    assert future.result(timeout=20).num_rows == 4


@pytest.mark.parametrize("seconds", [0, 0.2])
def test_a_version_that_does_not_come_is_an_error_with_both_versions(
    client: Client, prices: Applier, seconds: float
) -> None:
    prices.append(ROWS)
    future = client.read("prices", min_version=7, version_timeout=seconds)
    with pytest.raises(VersionNotReached, match=r"at version 0.*version 7 within") as caught:
        future.result(timeout=20)
    assert caught.value.details == {"newest": 0, "min_version": 7}
    assert caught.value.retryable


def test_a_worker_that_stops_passes_on_the_reads_that_wait(
    settings: Settings, prices: Applier
) -> None:
    prices.append(ROWS)
    with Client(settings) as client:
        with ReadingWorker(settings) as first:
            future = client.read("prices", min_version=1)
            wait_until(lambda: first.reader._room._guests)
        prices.append(ROWS)
        with ReadingWorker(settings):
            assert future.result(timeout=9).num_rows == 8  # sooner than the client asks again


def test_a_read_after_a_write_sees_what_it_wrote(
    client: Client, prices: Applier, settings: Settings
) -> None:
    for _ in range(7):
        prices.append(ROWS)
    player = Player(settings)
    write = client.append("prices", ROWS)
    read = client.read("prices", after=write)
    client.tables()
    assert not read.done()

    player.commit_all("prices")  # as version 7, before this process can see it
    assert write.result(timeout=20).version == 7
    client.tables()
    assert not read.done()

    prices.append(ROWS)
    assert read.result(timeout=20).num_rows == 32
    player.close()


def test_a_read_after_writes_of_which_one_fails_fails_alike(
    client: Client, settings: Settings
) -> None:
    player = Player(settings)
    writes = [client.append("prices", ROWS), client.append("trades", ROWS)]
    read = client.read("prices", after=writes)
    player.commit_all("prices")
    player.commit_all("trades", error=SchemaMismatch("column n is text"))
    with pytest.raises(SchemaMismatch, match="column n is text"):
        read.result(timeout=20)
    player.close()


def test_only_futures_of_writes_may_be_waited_for(client: Client, prices: Applier) -> None:
    prices.append(ROWS)
    with pytest.raises(InvalidRequest, match="no future"):
        client.read("prices", after="prices")  # type: ignore[arg-type]
    read: Future[Any] = client.read("prices")
    with pytest.raises(InvalidRequest, match="no write, but a read"):
        client.read("prices", after=read).result(timeout=20)


def test_a_client_that_is_closed_fails_the_reads_that_wait_for_writes(settings: Settings) -> None:
    client = Client(settings)
    read = client.read("prices", after=client.append("prices", ROWS))
    closing = threading.Thread(target=client.close)
    closing.start()
    with pytest.raises(Exception, match="closed"):
        read.result(timeout=20)
    closing.join()


def test_an_event_loop_reads_after_its_write(
    settings: Settings, worker: ReadingWorker, prices: Applier
) -> None:
    for _ in range(8):
        prices.append(ROWS)
    player = Player(settings)

    async def main() -> int:
        async with AsyncClient(settings) as client:
            write = await client.append("prices", ROWS)
            read = asyncio.create_task(client.read("prices", after=write))
            await asyncio.to_thread(player.commit_all, "prices")
            return int((await read).num_rows)

    assert asyncio.run(main()) == 32
    player.close()


def test_a_result_becomes_a_frame_in_which_each_value_is_itself(
    client: Client, prices: Applier
) -> None:
    prices.append(ROWS)
    frame = to_pandas(client.read("prices").result(timeout=20))

    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        "symbol": "string",
        "n": "Int64",
        "price": "float64",
        "amount": "object",
        "ts": "datetime64[us, UTC]",
        "day": "object",
        "up": "boolean",
        "a`c": "Int64",
    }
    assert frame["n"].tolist()[1] == 2**60 + 1
    assert frame["n"].isna().tolist() == [False, False, True, False]
    assert frame["amount"].tolist()[0] == Decimal("1.10")
    assert frame["ts"].tolist()[0] == NOON
    assert frame["day"].tolist()[0] == dt.date(2024, 5, 31)


def test_a_frame_that_was_read_may_be_written_again(client: Client, settings: Settings) -> None:
    from deltaq.client.frames import to_rows

    rows = to_rows(to_pandas(ROWS))
    again = pa.Table.from_batches(rows.batches, rows.schema)
    assert again.cast(ROWS.schema).equals(ROWS)


def test_the_dtype_of_a_column_does_not_depend_on_its_nulls() -> None:
    whole, part = to_pandas(ROWS), to_pandas(ROWS.slice(0, 1))
    assert whole.dtypes.tolist() == part.dtypes.tolist()


def test_sql_names_its_tables(client: Client, prices: Applier, settings: Settings) -> None:
    prices.append(ROWS)
    trades = Applier(prices.engine, settings.lake, "trades.2024")
    trades.append(pa.table({"symbol": ["A", "A", "D"], "qty": [1, 2, 3]}))

    found = client.sql(
        "select symbol, price, qty from prices join `trades.2024` using (symbol) order by qty"
    ).result(timeout=20)

    assert found.to_pydict() == {
        "symbol": ["A", "A", "D"],
        "price": [1.5, 1.5, 1e300],
        "qty": [1, 2, 3],
    }


def test_sql_waits_for_writes_and_versions(
    client: Client, prices: Applier, settings: Settings
) -> None:
    prices.append(ROWS)
    future = client.sql("select count(*) as n from prices", min_versions={"prices": 1})
    client.tables()
    assert not future.done()
    prices.append(ROWS)
    assert future.result(timeout=20)["n"].to_pylist() == [8]
    done: Future[Outcome] = Future(request_id="r", table="prices", operation="append")
    done._succeed(
        Outcome(
            request_id="r", table="prices", operation="append", state=State.COMMITTED, version=9
        )
    )
    with pytest.raises(VersionNotReached):
        client.sql("select n from prices", after=done, version_timeout=0).result(timeout=20)
