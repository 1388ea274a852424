"""Bulk loads as users see them: from Python and from a shell, with real workers."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deltaq.client import (
    AsyncClient,
    BackfillFuture,
    BackfillState,
    Client,
    Csv,
    InvalidFrame,
    InvalidRequest,
    RequestCancelled,
    RequestIdConflict,
    ResultTimeout,
    SchemaMismatch,
)
from deltaq.client.commits_shown import shown_commits
from deltaq.tasks.backfill import Backfill
from deltaq.tasks.query import Place
from deltaq.tasks.staging import StagingArea
from deltaq.worker import System, embedded
from deltaq.worker.commits import commits_after
from tests.support.places import on_disk
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(120)

PATIENCE = 60.0


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system with one worker, without Spark."""
    with embedded(tmp_path_factory.mktemp("backfills") / "lake", spark="off") as system:
        system.wait_ready()
        yield system


@pytest.fixture
def client(system: System) -> Iterator[Client]:
    """A client of it."""
    with system.client() as client:
        yield client


@pytest.fixture
def table() -> str:
    """The name of a table that nobody else uses."""
    return f"t{uuid.uuid4().hex}"


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[System]:
    """A system whose workers are yet to be started."""
    with embedded(tmp_path / "lake", workers=0, spark="off") as system:
        yield system


def rows(client: Client, table: str, order: str) -> list[dict[str, Any]]:
    found = client.sql(f"select * from {table} order by {order}").result(PATIENCE)
    return list(found.to_pylist())


def days(folder: Path, *, count: int = 3, rows: int = 4) -> Path:
    """Write a CSV file for each of some days, in folders that name them."""
    for day in range(1, count + 1):
        path = folder / f"day=2024-01-{day:02}" / "prices.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"S{n},{n}.5\n" for n in range(rows))
        path.write_text(f"symbol,price\n{lines}")
    return folder


def files_of(system: System, table: str) -> list[Path]:
    folder = on_disk(system.settings.lake / table)
    return [p for p in folder.rglob("*.parquet") if "_delta" not in str(p)]


def test_a_folder_becomes_one_commit_with_the_columns_that_its_folders_name(
    client: Client, table: str, tmp_path: Path
) -> None:
    future = client.backfill(table, days(tmp_path), partition_by="day", sort_by="price")

    outcome = future.result(PATIENCE)

    assert isinstance(future, BackfillFuture)
    assert (outcome.version, outcome.rows) == (0, 12)
    counted = client.sql(f"select day, count(*) n from {table} group by day order by day")
    assert [(str(r["day"]), r["n"]) for r in counted.result(PATIENCE).to_pylist()] == [
        *(("2024-01-01", 4), ("2024-01-02", 4), ("2024-01-03", 4))
    ]
    progress = future.progress()
    assert (progress.state, progress.prepared, progress.rows) == (BackfillState.ADOPTED, 1, 12)


def test_modes_add_rows_replace_partitions_and_replace_all(
    client: Client, system: System, table: str, tmp_path: Path
) -> None:
    source = days(tmp_path)
    client.backfill(table, source, partition_by="day").result(PATIENCE)
    (source / "day=2024-01-02" / "prices.csv").write_text("symbol,price\nNEW,1.0\n")
    second = source / "day=2024-01-02"

    def counts() -> list[int]:
        found = client.sql(f"select day, count(*) n from {table} group by day order by day")
        return [row["n"] for row in found.result(PATIENCE).to_pylist()]

    client.backfill(table, second, mode="replace_partitions").result(PATIENCE)
    assert counts() == [4, 1, 4]
    client.backfill(table, [second, source / "day=2024-01-03"]).result(PATIENCE)
    assert counts() == [4, 2, 8]
    outcome = client.backfill(table, second, mode="overwrite").result(PATIENCE)
    assert (counts(), outcome.version) == ([1], 3)
    history = client.history(table)
    assert history.column("rows").to_pylist() == [1, 5, 1, 12]
    assert [commit[3] for commit in shown_commits(history)] == ["+1", "+5", "+1", "+12"]
    commits = commits_after(system.settings.lake / table, table, Place(version=-1))["commits"]
    assert [commit["rows"] for commit in commits] == [12, 1, 5, 1]


def test_frames_of_all_kinds_are_uploaded_and_loaded(client: Client, table: str) -> None:
    one = pa.table({"n": [1], "name": ["a"]})
    frames = [
        one,
        pd.DataFrame({"n": [2], "name": ["b"]}),
        pl.DataFrame({"n": [3], "name": ["c"]}),
        one.slice(0, 0),
        pa.RecordBatchReader.from_batches(one.schema, one.to_batches()),
    ]

    outcome = client.backfill(table, iter(frames)).result(PATIENCE)

    assert outcome.rows == 4
    assert [row["n"] for row in rows(client, table, "n")] == [1, 1, 2, 3]


def test_one_frame_is_loaded_as_it_is(client: Client, table: str) -> None:
    for frame in (pd.DataFrame({"n": [1]}), pl.DataFrame({"n": [1]}), pa.table({"n": [1]})):
        assert client.backfill(table, frame).result(PATIENCE).rows == 1


def test_files_are_uploaded_when_workers_do_not_see_them(
    client: Client, table: str, tmp_path: Path, system: System
) -> None:
    source = days(tmp_path)
    future = client.backfill(table, source, upload=True, partition_by="day")

    assert future.result(PATIENCE).rows == 12
    assert {str(row["day"]) for row in rows(client, table, "day")} == {
        *("2024-01-01", "2024-01-02", "2024-01-03")
    }


def test_parquet_csv_and_json_lines_go_into_one_table(
    client: Client, table: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"n": [1], "name": ["p"]}), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("name;n\nc;2\nNA;4\n")
    (tmp_path / "c.jsonl").write_text('{"n": 3, "name": "j"}\n')
    how = Csv(delimiter=";", null_values=("", "NA"))

    client.backfill(table, tmp_path, csv=how).result(PATIENCE)

    assert [row["name"] for row in rows(client, table, "n")] == ["p", "c", "j", None]


def test_narrower_types_and_missing_columns_are_taken_when_asked_for(
    client: Client, table: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"n": pa.array([1], pa.int32())}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"n": [2**40], "new": [0.5]}), tmp_path / "b.parquet")

    with pytest.raises(SchemaMismatch, match=r"b\.parquet.*'n'"):
        client.backfill(table, tmp_path)
    client.backfill(table, tmp_path, schema_mode="merge").result(PATIENCE)

    assert rows(client, table, "n") == [{"n": 1, "new": None}, {"n": 2**40, "new": 0.5}]


def test_text_gets_the_types_that_the_table_has(client: Client, table: str, tmp_path: Path) -> None:
    client.create(table, {"n": "decimal(10, 2)", "at": "timestamp"}).result(PATIENCE)
    (tmp_path / "a.csv").write_text("n,at\n1.25,2024-01-02 03:04:05Z\n")

    client.backfill(table, tmp_path / "a.csv").result(PATIENCE)

    (found,) = rows(client, table, "n")
    assert (str(found["n"]), found["at"].isoformat()) == ("1.25", "2024-01-02T03:04:05+00:00")


def test_what_cannot_be_meant_is_refused_at_once_and_leaves_nothing_behind(
    client: Client, system: System, table: str, tmp_path: Path
) -> None:
    source = days(tmp_path)
    before = [progress.backfill_id for progress in client.backfills()]
    frame = pd.DataFrame({"symbol": ["A"], "price": [1.5]})

    with pytest.raises(SchemaMismatch, match=r"missing partition column 'dya' .did you mean 'day'"):
        client.backfill(table, source, partition_by="dya")
    with pytest.raises(SchemaMismatch, match="missing sort column"):
        client.backfill(table, frame, sort_by="x")
    with pytest.raises(InvalidRequest, match="mode 'replace'"):
        client.backfill(table, frame, mode="replace")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="no rows"):
        client.backfill(table, frame[:0])
    with pytest.raises(InvalidRequest, match="not int"):
        client.backfill(table, 7)
    with pytest.raises(InvalidFrame, match="dict is no frame"):
        client.backfill(table, [{"n": 1}])
    client.append(table, frame).result(PATIENCE)
    with pytest.raises(InvalidRequest, match="not partitioned"):
        client.backfill(table, frame, mode="replace_partitions")
    with pytest.raises(SchemaMismatch, match="is partitioned by nothing, not by symbol"):
        client.backfill(table, frame, partition_by="symbol")

    assert [progress.backfill_id for progress in client.backfills()] == before
    there = (system.settings.staging_root / "backfills").iterdir()
    assert {folder.name for folder in there} == set(before)


def test_the_same_id_joins_what_was_begun(client: Client, system: System, table: str) -> None:
    frame = pd.DataFrame({"n": [1, 2]})
    first = client.backfill(table, frame, request_id=f"{table}-1")
    with system.client() as other:
        joined = other.backfill(table, frame, request_id=f"{table}-1")
        assert joined.result(PATIENCE).version == first.result(PATIENCE).version == 0
    again = client.backfill(table, frame, request_id=f"{table}-1").result(PATIENCE)

    assert again.version == 0
    assert len(rows(client, table, "n")) == 2
    with pytest.raises(RequestIdConflict):
        client.backfill("other", frame, request_id=f"{table}-1")


def test_a_failure_names_file_and_line_and_a_mended_source_can_be_resumed(
    client: Client, system: System, table: str, tmp_path: Path
) -> None:
    source = days(tmp_path)
    broken = source / "day=2024-01-02" / "prices.csv"
    # Behind what is sampled.
    broken.write_text("symbol,price\n" + "S,1.5\n" * 400_000 + "S,dear\n" + "S,1.5\n" * 700_000)
    future = client.backfill(table, source, parts=3, request_id=table)

    with pytest.raises((InvalidFrame, SchemaMismatch), match=r"prices\.csv.*line 400002.*price"):
        future.result(PATIENCE)
    assert future.progress().state is BackfillState.FAILED
    assert not client.exists(table)
    wait_until(lambda: files_of(system, table) == [], within=PATIENCE)
    with pytest.raises((InvalidFrame, SchemaMismatch)):  # the same id is what came of it
        client.backfill(table, source, parts=3, request_id=table).result(PATIENCE)

    broken.write_text("symbol,price\nS,1.5\n")

    assert client.resume_backfill(table).result(PATIENCE).rows == 9
    assert len(rows(client, table, "price")) == 9


def test_one_that_is_cancelled_leaves_the_table_as_it_was(waiting: System, table: str) -> None:
    with waiting.client() as client:
        schema = pa.schema([("n", pa.int64())])
        future = client.backfill(table, pa.table({"n": [1]}), schema=schema)
        assert future.progress().state is BackfillState.PREPARING

        assert future.cancel()

        with pytest.raises(RequestCancelled):
            future.result(PATIENCE)
        assert client.cancel_backfill(future.request_id)
        (listed,) = client.backfills(table)
        assert listed.state is BackfillState.CANCELLED
        assert client.backfills("other") == []
        waiting.start_worker()
        resumed = client.resume_backfill(future.request_id)
        assert resumed.result(PATIENCE).rows == 1
        assert not client.cancel_backfill(future.request_id)


def test_without_a_worker_only_a_schema_is_enough_to_begin(
    waiting: System, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltaq.client.backfill_run._ANSWER_SECONDS", 0.01)
    with waiting.client() as client:
        with pytest.raises(ResultTimeout, match="no answer to detail"):
            client.backfill(table, pa.table({"n": [1]}))
        assert client.backfills() == []


def test_an_id_that_nobody_has_is_told_with_what_may_be_meant(client: Client, table: str) -> None:
    client.backfill(table, pa.table({"n": [1]}), request_id=f"{table}-2023").result(PATIENCE)

    for call in (client.backfill_progress, client.resume_backfill, client.cancel_backfill):
        with pytest.raises(InvalidRequest, match=f"did you mean '{table}-2023'"):
            call(f"{table}-2033")


def test_one_whose_manifest_is_damaged_is_listed_as_such(waiting: System) -> None:
    area = StagingArea(waiting.settings.staging_root)
    folder = on_disk(Backfill(area, "damaged").folder)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    with waiting.client() as client:
        (listed,) = client.backfills()

    assert listed.state is BackfillState.UNREADABLE
    assert listed.error is not None
    assert "manifest.json" in listed.error.message


def test_an_event_loop_loads_follows_and_cancels(system: System, table: str) -> None:
    async def run() -> None:
        async with AsyncClient(system.settings) as client:
            frame = pa.table({"n": [1, 2]})
            future = await client.backfill(table, frame, request_id=table)
            outcome = await future
            progress = await future.progress()
            assert (outcome.rows, progress.prepared) == (2, 1)
            assert table in [b.backfill_id for b in await client.backfills(table)]
            assert (await (await client.resume_backfill(table))).version == 0
            assert await client.cancel_backfill(table) is False
            assert (await client.backfill_progress(table)).rows == 2

    asyncio.run(run())


def test_progress_of_many_counts_backfills_too(client: Client, table: str) -> None:
    futures = [client.backfill(table, pa.table({"n": [n]})) for n in range(2)]

    counts = client.progress(futures, file=io.StringIO()).wait(PATIENCE)

    assert (counts.committed, counts.rows) == (2, 2)


def shell(system: System, *arguments: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "deltaq.client.cli", "backfill", *arguments],
        cwd=folder,
        env={**os.environ, **system.env, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(system: System, *arguments: str, folder: Path) -> tuple[int, str, str]:
    process = shell(system, *arguments, folder=folder)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def test_a_shell_loads_lists_and_shows(system: System, table: str, tmp_path: Path) -> None:
    source = str(days(tmp_path))
    options = ["--partition-by", "day", "--request-id", table]

    code, out, err = said(system, table, source, *options, folder=tmp_path)
    assert (code, out) == (0, f"{table}: version 0, 12 inserted\n")
    assert "adopted: 1 of 1 parts, 12 rows" in err
    code, out, _ = said(system, "list", "--table", table, folder=tmp_path)
    assert out.split()[2:4] == [table, table]
    assert "adopted: 1 of 1 parts, 12 rows" in out
    code, out, _ = said(system, "show", table, "--json", folder=tmp_path)
    assert json.loads(out)["state"] == "adopted"
    assert json.loads(out)["rows"] == 12
    assert "state: adopted: 1 of 1 parts" in said(system, "show", table, folder=tmp_path)[1]


def test_a_shell_tells_errors_by_exit_codes(system: System, table: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")

    code, _, err = said(system, table, "*.parquet", "--json", folder=tmp_path)
    assert (code, json.loads(err)["code"]) == (1, "invalid_request")
    code, _, err = said(system, table, folder=tmp_path)
    assert (code, "Missing argument 'SOURCE...'" in err) == (2, True)
    assert said(system, table, "a.csv", "--request-id", table, folder=tmp_path)[0] == 0
    code, _, err = said(system, "cancel", table, folder=tmp_path)
    assert (code, "cannot be cancelled" in err) == (1, True)
    (tmp_path / "b.csv").write_text("a\none\n")
    options = ["-c", "a bigint", "--request-id", f"{table}-b"]
    code, _, err = said(system, table, "b.csv", *options, folder=tmp_path)
    assert (code, "b.csv: line 2" in err) == (1, True)
    assert f"go on: deltaq backfill resume {table}-b" in err


def test_ctrl_c_and_a_timeout_end_the_wait_and_not_the_backfill(
    waiting: System, table: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    begin = [table, "a.csv", "-c", "a bigint", "--request-id", table]

    code, out, _ = said(waiting, *begin, "--no-wait", folder=tmp_path)
    assert (code, out) == (0, f"{table}\n")
    code, _, err = said(waiting, *begin, "--timeout", "0.1", folder=tmp_path)
    assert (code, f"deltaq backfill resume {table}" in err) == (4, True)
    process = shell(waiting, "resume", table, folder=tmp_path)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("preparing: 0 of 1 parts")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, f"deltaq backfill cancel {table}" in err) == (130, True)

    waiting.start_worker()

    assert said(waiting, "resume", table, folder=tmp_path)[:2] == (
        *(0, f"{table}: version 0, 1 inserted\n"),
    )
