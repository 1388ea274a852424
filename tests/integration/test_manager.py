"""DeltaLakeManager over a queue and in this process: the same calls, the same tables."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from deltalake import DeltaTable

from deltaq.client import (
    Client,
    ConfigurationError,
    DeltaLakeManager,
    DuplicateKeys,
    EngineRefused,
    InvalidExpression,
    InvalidRequest,
    InvalidTableName,
    QueueUnavailable,
    RequestError,
    ResultTimeout,
    SchemaMismatch,
    StorageUnavailable,
    TableNotFound,
    VersionNotFound,
)
from deltaq.tasks import keys
from deltaq.tasks.request import Lane
from deltaq.worker import System, embedded
from deltaq.worker.ledger import app_id
from tests.support.log import committed_requests
from tests.support.paths import as_path
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

PRICES = pd.DataFrame({"symbol": ["A", "B"], "qty": [1, 2]})


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    lake = tmp_path_factory.mktemp("manager") / "lake"
    with embedded(lake, spark="off") as system:
        yield system


@pytest.fixture(params=["queue", "in process"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DeltaLakeManager]:
    if request.param == "queue":
        system: System = request.getfixturevalue("system")
        url = system.settings.redis_url
        made = DeltaLakeManager(str(system.settings.lake), redis_url=url)
    else:
        made = DeltaLakeManager(str(tmp_path / "lake"))
    with made:
        yield made


@pytest.fixture
def table(request: pytest.FixtureRequest) -> str:
    """A name of its own: the queue's lake is shared."""
    return "t_" + "".join(c if c.isalnum() else "_" for c in request.node.name)


def rows(manager: DeltaLakeManager, table: str, **query: Any) -> list[tuple[Any, ...]]:
    return sorted(manager.read_table(table, **query).itertuples(index=False, name=None))


def path_of(manager: DeltaLakeManager, table: str) -> Path:
    return as_path(manager.settings.lake) / table


# --- the methods


def test_the_first_write_creates_a_table_and_further_ones_append(
    manager: DeltaLakeManager, table: str
) -> None:
    assert manager.table_exists(table) is False

    manager.create_or_update_table(PRICES, table, ["symbol"])
    manager.create_or_update_table(PRICES, table)

    assert manager.table_exists(table) is True
    assert rows(manager, table) == [("A", 1), ("A", 1), ("B", 2), ("B", 2)]
    assert DeltaTable(path_of(manager, table)).metadata().partition_columns == ["symbol"]


def test_overwrite_replaces_all_rows(manager: DeltaLakeManager, table: str) -> None:
    manager.create_or_update_table(PRICES, table)
    manager.create_or_update_table(PRICES.head(1), table, mode="overwrite")
    assert rows(manager, table) == [("A", 1)]


def test_an_upsert_updates_named_columns_and_inserts_other_rows_whole(
    manager: DeltaLakeManager, table: str
) -> None:
    manager.merge_upsert(PRICES.assign(note="old"), table, ["symbol"])

    fix = pd.DataFrame({"symbol": ["B", "C"], "qty": [20, 30], "note": ["new", "new"]})
    manager.merge_upsert(fix, table, ["symbol"], ["qty"])

    assert rows(manager, table) == [("A", 1, "old"), ("B", 20, "old"), ("C", 30, "new")]


def test_all_filters_must_hold_and_double_quotes_are_a_string(
    manager: DeltaLakeManager, table: str
) -> None:
    manager.create_or_update_table(PRICES, table)

    assert rows(manager, table, filters=['symbol = "A"']) == [("A", 1)]
    assert rows(manager, table, filters=["qty > 0 -- all", "qty > 1 OR symbol = 'X'"]) == [("B", 2)]
    assert rows(manager, table, filters=[]) == [("A", 1), ("B", 2)]
    with pytest.raises(InvalidExpression):
        manager.read_table(table, filters=["qty >"])


def test_what_is_read_has_the_dtypes_of_the_table(manager: DeltaLakeManager, table: str) -> None:
    frame = pd.DataFrame({"k": pd.array([2**60 + 1, None], "Int64"), "ok": [True, False]})
    manager.create_or_update_table(frame, table)

    read = manager.read_table(table).sort_values("k")

    assert [str(dtype) for dtype in read.dtypes] == ["Int64", "boolean"]
    assert read["k"].iloc[0] == 2**60 + 1


def test_history_has_a_row_for_each_version(manager: DeltaLakeManager, table: str) -> None:
    for _ in range(3):
        manager.create_or_update_table(PRICES, table)

    history = manager.get_table_history(table)

    assert list(history["version"]) == [2, 1, 0]
    assert {"version", "timestamp", "operation", "userName", "operationParameters"} <= set(history)
    assert len(set(history["user"])) == 1  # who runs this
    assert "@" in history["user"][0]


def test_a_deleted_table_is_gone_and_may_be_made_again(
    manager: DeltaLakeManager, table: str
) -> None:
    manager.create_or_update_table(PRICES, table)

    manager.delete_table(table)

    assert not path_of(manager, table).exists()
    assert manager.table_exists(table) is False
    manager.create_or_update_table(pd.DataFrame({"other": ["x"]}), table)
    assert rows(manager, table) == [("x",)]


def test_to_delete_a_missing_table_is_a_warning(
    manager: DeltaLakeManager, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    manager.delete_table(table)
    assert [r.levelname for r in caplog.records if table in r.message] == ["WARNING"]


def test_the_same_request_id_is_written_once(manager: DeltaLakeManager, table: str) -> None:
    for _ in range(2):
        manager.create_or_update_table(PRICES, table, request_id=f"day-{table}")
    assert rows(manager, table) == [("A", 1), ("B", 2)]


def test_threads_share_a_manager(manager: DeltaLakeManager, table: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: manager.create_or_update_table(PRICES, table), range(12)))
    assert len(rows(manager, table)) == 24


# --- what the old class did wrong


def test_mode_merge_upserts_by_merge_keys_and_says_so_without_them(
    manager: DeltaLakeManager, table: str
) -> None:
    manager.create_or_update_table(PRICES, table)

    with pytest.raises(ValueError, match=r"needs merge_keys="):
        manager.create_or_update_table(PRICES, table, mode="merge")
    with pytest.raises(ValueError, match=r"merge_keys is for mode='merge'"):
        manager.create_or_update_table(PRICES, table, merge_keys=["symbol"])
    with pytest.raises(ValueError, match="'upsert': one of append, overwrite, merge"):
        manager.create_or_update_table(PRICES, table, mode="upsert")
    changed = pd.DataFrame({"symbol": ["B", "C"], "qty": [20, 30]})
    manager.create_or_update_table(changed, table, mode="merge", merge_keys=["symbol"])

    assert rows(manager, table) == [("A", 1), ("B", 20), ("C", 30)]


def test_concurrent_merges_do_not_replace_each_others_rows(
    manager: DeltaLakeManager, table: str
) -> None:
    manager.create_or_update_table(PRICES, table)
    start = threading.Barrier(4)

    def merge(n: int) -> None:
        start.wait()
        manager.merge_upsert(pd.DataFrame({"symbol": [f"N{n}"], "qty": [n]}), table, ["symbol"])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(merge, range(4)))

    assert rows(manager, table)[2:] == [(f"N{n}", n) for n in range(4)]


def test_a_missing_table_and_a_broken_one_are_errors_not_empty_answers(
    manager: DeltaLakeManager, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    asks: list[Callable[[str], object]] = [
        manager.read_table,
        manager.get_table_history,
        manager.optimize_table,
        manager.vacuum_table,
    ]
    for ask in asks:
        caplog.clear()
        with pytest.raises(TableNotFound):
            ask(table)
        (told,) = [r for r in caplog.records if r.name == "deltaq.client.manager"]
        assert told.levelname == "ERROR"
        assert f"table {table}" in told.message
    (path_of(manager, table)).mkdir()
    assert manager.table_exists(table) is False  # a folder is no table
    (path_of(manager, table) / "_delta_log").touch()
    with pytest.raises(StorageUnavailable, match="Not a directory"):
        manager.table_exists(table)


def test_two_writes_within_a_second_are_both_there_as_delta(
    manager: DeltaLakeManager, table: str
) -> None:
    for _ in range(2):
        manager.create_or_update_table(PRICES, table)
    assert len(DeltaTable(path_of(manager, table)).to_pyarrow_table()) == 4


@pytest.mark.parametrize("name", ["../x", "/etc/x", "", "a/b", ".hidden", "x\n"])
def test_no_name_leads_out_of_the_lake(manager: DeltaLakeManager, name: str) -> None:
    for verb in (manager.delete_table, manager.read_table, manager.table_exists):
        with pytest.raises(InvalidTableName):
            verb(name)
    with pytest.raises(InvalidTableName):
        manager.create_or_update_table(PRICES, name)


def test_less_than_a_week_of_retention_needs_force(manager: DeltaLakeManager, table: str) -> None:
    manager.create_or_update_table(PRICES, table)
    manager.create_or_update_table(PRICES, table, mode="overwrite")
    with pytest.raises(InvalidRequest, match="168"):
        manager.vacuum_table(table, 0)
    manager.vacuum_table(table)
    assert len(list(path_of(manager, table).glob("*.parquet"))) == 2

    manager.vacuum_table(table, 0, force=True)

    assert len(list(path_of(manager, table).glob("*.parquet"))) == 1
    assert rows(manager, table) == [("A", 1), ("B", 2)]


def test_times_without_a_zone_are_utc(
    manager: DeltaLakeManager, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.create_or_update_table(PRICES, table)
    wait_until(lambda: time.time() > manager_times(manager, table)[-1].timestamp() + 0.01)
    manager.create_or_update_table(PRICES, table)
    first, second = manager_times(manager, table)
    between = first + (second - first) / 2
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        text = between.tz_convert("UTC").tz_localize(None).isoformat()
        assert len(rows(manager, table, as_of_timestamp=text)) == 2
        assert len(rows(manager, table, as_of_timestamp=text + "Z")) == 2
        with pytest.raises(VersionNotFound):
            manager.read_table(table, "2001-01-01T00:00:00")
        with pytest.raises(InvalidRequest, match="timestamp 'yesterday'"):
            manager.read_table(table, "yesterday")
    finally:
        monkeypatch.undo()
        time.tzset()


def manager_times(manager: DeltaLakeManager, table: str) -> list[pd.Timestamp]:
    return sorted(manager.get_table_history(table)["timestamp"])


def test_keys_are_quoted_and_duplicate_and_null_keys_are_not_guessed_at(
    manager: DeltaLakeManager, table: str
) -> None:
    key = "order"  # a word of SQL
    frame = pd.DataFrame({key: ["x", None], "n": [1, 2]})
    manager.merge_upsert(frame, table, [key])

    with pytest.raises(DuplicateKeys, match="order"):
        manager.merge_upsert(pd.DataFrame({key: ["y", "y"], "n": [3, 4]}), table, [key])
    manager.merge_upsert(pd.DataFrame({key: ["x", None], "n": [5, 6]}), table, [key])

    read = manager.read_table(table)
    assert sorted(read["n"]) == [2, 5, 6]  # null matches nothing


def test_z_order_is_one_pass(manager: DeltaLakeManager, table: str) -> None:
    for _ in range(3):
        manager.create_or_update_table(PRICES, table)

    manager.optimize_table(table, ["qty"])

    operations = list(manager.get_table_history(table)["operation"])
    assert operations.count("OPTIMIZE") == 1
    assert len(DeltaTable(path_of(manager, table)).file_uris()) == 1
    manager.create_or_update_table(PRICES, table)
    manager.optimize_table(table)
    assert len(rows(manager, table)) == 8
    with pytest.raises(SchemaMismatch, match="did you mean 'qty'"):
        manager.optimize_table(table, ["qtty"])


# --- without a queue


def test_a_manager_in_this_process_leaves_nothing_staged_and_keeps_a_ledger(tmp_path: Path) -> None:
    with DeltaLakeManager(str(tmp_path / "lake")) as manager:
        manager.create_or_update_table(PRICES, "t")
        with pytest.raises(RequestError):
            manager.create_or_update_table(pd.DataFrame({"wrong": [1]}), "t")
        manager.merge_upsert(PRICES, "t", ["symbol"])

    assert not list((tmp_path / "lake" / ".deltaq").rglob("*.parquet"))
    log = DeltaTable(tmp_path / "lake" / "t")
    assert log.transaction_version(app_id("local", Lane.LIVE)) == 2
    assert [sequence for _, sequence, _ in committed_requests(tmp_path / "lake" / "t")] == [1, 2]


def test_processes_that_write_one_table_lose_and_double_nothing(tmp_path: Path) -> None:
    program = """if True:
        import sys, pandas
        from deltaq.client import DeltaLakeManager
        with DeltaLakeManager(sys.argv[1]) as manager:
            for n in range(10):
                frame = pandas.DataFrame({"by": [sys.argv[2]], "n": [n]})
                manager.create_or_update_table(frame, "t")
    """
    lake = tmp_path / "lake"
    running = [
        subprocess.Popen([sys.executable, "-c", program, lake, name]) for name in ("a", "b", "c")
    ]
    assert [process.wait(120) for process in running] == [0, 0, 0]

    with DeltaLakeManager(str(lake)) as manager:
        found = [tuple(row) for row in manager.read_table("t").itertuples(index=False)]
    assert sorted(found) == [(name, n) for name in ("a", "b", "c") for n in range(10)]
    sequences = [sequence for _, sequence, _ in committed_requests(lake / "t")]
    assert sequences == list(range(1, 31))


def test_a_queue_goes_on_with_a_table_that_was_written_without_one(
    system: System, tmp_path: Path
) -> None:
    lake = str(system.settings.lake)
    with DeltaLakeManager(lake) as alone:
        alone.create_or_update_table(PRICES, "handed_over")
    with DeltaLakeManager(lake, redis_url=system.settings.redis_url) as queued:
        queued.create_or_update_table(PRICES, "handed_over")
        assert len(queued.read_table("handed_over")) == 4


def test_what_only_spark_can_do_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with DeltaLakeManager(str(tmp_path / "lake"), native_max_bytes=1) as manager:
        with pytest.raises(EngineRefused, match="let Spark do it"):
            manager.create_or_update_table(PRICES, "t")
        assert not manager.table_exists("t")


def test_a_manager_without_queue_needs_no_spark(tmp_path: Path) -> None:
    program = """if True:
        import sys, pandas
        from deltaq.client import DeltaLakeManager
        with DeltaLakeManager(sys.argv[1]) as manager:
            manager.create_or_update_table(pandas.DataFrame({"n": [1]}), "t")
        assert "pyspark" not in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "lake"], timeout=120)
    assert done.returncode == 0


def test_without_the_package_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "deltaq.worker.local", None)
    with pytest.raises(ConfigurationError, match=r"set redis_url, or install .*deltaq\[worker\]"):
        DeltaLakeManager(str(tmp_path))


# --- with a queue that is not there


@pytest.fixture
def without_worker(own_redis: RedisServer, tmp_path: Path) -> Iterator[DeltaLakeManager]:
    with DeltaLakeManager(
        str(tmp_path / "lake"), redis_url=own_redis.url, redis_timeout=0.5, timeout=1.0
    ) as manager:
        yield manager


def test_while_redis_is_down_writes_are_staged_and_nothing_else_is_written(
    own_redis: RedisServer, without_worker: DeltaLakeManager
) -> None:
    own_redis.kill()

    with pytest.raises(QueueUnavailable, match="deltaq recover --apply") as caught:
        without_worker.create_or_update_table(PRICES, "t", request_id="day-1")
    for ask in (
        without_worker.read_table,
        without_worker.table_exists,
        without_worker.delete_table,
    ):
        with pytest.raises(QueueUnavailable):
            ask("t")

    staged = Path(caught.value.details["staged_file"])
    lake = as_path(without_worker.settings.lake)
    assert list(lake.rglob("*.parquet")) == [staged]
    assert [entry.name for entry in lake.iterdir()] == [".deltaq"]
    # And it goes in when Redis is back, once, whether it is called again or not.
    own_redis.start()
    with Client(without_worker.settings) as client:
        wait_until(lambda: client.outcome("t", "day-1") is not None, within=20)
    with pytest.raises(ResultTimeout, match="it goes on"):
        without_worker.create_or_update_table(PRICES, "t", request_id="day-1")
    with own_redis.client() as redis:
        assert redis.xlen(keys.inbox("t", Lane.LIVE)) == 1


def test_a_call_whose_process_ends_before_redis_is_back_keeps_its_staged_file(
    own_redis: RedisServer, without_worker: DeltaLakeManager
) -> None:
    own_redis.kill()
    with pytest.raises(QueueUnavailable) as caught:
        without_worker.create_or_update_table(PRICES, "t")

    without_worker.close()

    assert Path(caught.value.details["staged_file"]).exists()


def test_without_a_worker_the_request_is_queued_and_the_call_ends(
    without_worker: DeltaLakeManager, own_redis: RedisServer
) -> None:
    with pytest.raises(ResultTimeout, match="it goes on"):
        without_worker.create_or_update_table(PRICES, "t")
    with own_redis.client() as redis:
        assert redis.xlen(keys.inbox("t", Lane.LIVE)) == 1
    assert not (without_worker.settings.lake / "t").exists()
