"""The real Flower, with its account in Redis, seen through a real browser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deltaq.client import Client, RequestCancelled
from deltaq.tasks import keys
from tests.support.flower import AUTH, Browser, FlowerServer, browser
from tests.support.programs import environment
from tests.support.tls_redis import PASSWORDS, TlsRedis, tls_redis
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

ROWS = pa.table({"id": [1, 2], "note": ["rows-do-not-pass-by-here", "b"]})
WORKER, SECOND = "flowery@here", "second@here"


@dataclass(kw_only=True)
class Scene:
    """A worker, and a Flower that has seen it from the start."""

    redis: TlsRedis
    worker: subprocess.Popen[bytes]
    flower: FlowerServer
    lake: Path

    def client(self) -> Client:
        return Client(lake=self.lake, **self.redis.settings("client"))

    @contextmanager
    def worker_beside(self, name: str) -> Iterator[None]:
        """Run another worker, of which Flower hears when it comes."""
        log = self.lake.parent / f"{name}.log"
        with log.open("wb") as output:
            worker = start_worker(name, self.redis, self.lake, output)
        try:
            wait_until(lambda: "serves" in log.read_text(), within=60, saying=log.read_text)
            yield
        finally:
            worker.terminate()
            assert worker.wait(60) == 0, log.read_text()


def start_worker(
    name: str, redis: TlsRedis, lake: Path, output: IO[bytes]
) -> subprocess.Popen[bytes]:
    given = {f"DELTAQ_{n.upper()}": v for n, v in redis.settings("worker").items()}
    return subprocess.Popen(
        [sys.executable, "-m", "deltaq.worker", "worker", "--name", name],
        env=environment(
            DELTAQ_LAKE=str(lake),
            DELTAQ_SPARK="off",
            DELTAQ_BACKFILL_SOURCES=str(lake.parent / "loads"),
            **given,
        ),
        stdout=output,
        stderr=output,
    )


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("flower")
    log, lake = folder / "worker.log", folder / "lake"
    with tls_redis() as server:
        with log.open("wb") as output:
            worker = start_worker(WORKER, server, lake, output)
        flower = FlowerServer(folder / "flower.log", server.settings("flower"))
        try:
            wait_until(lambda: "serves" in log.read_text(), within=60, saying=log.read_text)
            yield Scene(redis=server, worker=worker, flower=flower, lake=lake)
        finally:
            worker.kill()
            worker.wait()
            code = flower.stop()
    assert code == 0, flower.log.read_text()
    assert "secret" not in flower.log.read_text() + log.read_text()


@pytest.fixture(scope="module")
def page(scene: Scene) -> Iterator[Browser]:
    with browser(scene.flower.url) as found:
        # What happens before the worker knows that somebody listens is not shown.
        wait_until(lambda: online(found), within=60, saying=found.workers)
        wait_until(lambda: _shows_requests(scene, found), within=60, saying=found.tasks)
        yield found


def online(page: Browser) -> list[str]:
    return [row["Worker"] for row in page.workers() if row.get("Status") == "Online"]


def _shows_requests(scene: Scene, page: Browser) -> bool:
    with scene.client() as client:
        client.append("first", ROWS).result(30)
    return any(row.get("Name") == "deltaq.append" for row in page.tasks())


def see(condition: Callable[[], object], *, saying: Callable[[], object] = str) -> None:
    """Wait until pages show something."""
    wait_until(condition, within=30, saying=saying)


def of_table(page: Browser, table: str) -> list[dict[str, str]]:
    """The tasks of a table, oldest first."""
    found = [row for row in page.tasks() if f"'table': '{table}'" in row.get("kwargs", "")]
    return found[::-1]


def test_each_request_is_a_task_with_its_table_state_and_runtime(
    scene: Scene, page: Browser
) -> None:
    with scene.client() as client:
        client.append("prices", ROWS).result(30)
        client.merge("prices", ROWS, keys=["id"]).result(30)
        client.delete("prices", where="id = 1").result(30)

    wanted = ["deltaq.append", "deltaq.merge", "deltaq.delete"]
    see(
        lambda: (
            {r["Name"] for r in of_table(page, "prices") if r["State"] == "SUCCESS"}
            >= {*wanted, "deltaq.commit"}
        ),
        saying=page.tasks,
    )

    shown = {row["Name"]: row for row in of_table(page, "prices")}
    append = shown["deltaq.append"]
    assert append["kwargs"] == "{'table': 'prices', 'rows': 2, 'lane': 'live'}"
    assert append["Result"].startswith("version 0, 2 rows")
    assert all(re.fullmatch(r"[\d.]+ m?s", shown[name]["Runtime"]) for name in wanted)
    assert "2 updated" in shown["deltaq.merge"]["Result"]
    assert {row["Worker"] for row in shown.values()} == {WORKER}


def test_a_failed_request_shows_its_typed_error(scene: Scene, page: Browser) -> None:
    with scene.client() as client:
        client.append("strict", ROWS).result(30)
        wrong = client.append("strict", pa.table({"id": ["no number"]}))
        error = wrong.exception(30)

    see(lambda: "FAILURE" in [r["State"] for r in of_table(page, "strict")], saying=page.tasks)

    (failed,) = [r for r in of_table(page, "strict") if r["State"] == "FAILURE"]
    assert failed["Name"] == "deltaq.append"
    assert failed["Exception"].startswith("schema_mismatch: the frame does not fit table strict")
    assert failed["Exception"].removeprefix("schema_mismatch: ") in str(error)
    assert wrong.request_id in page.open(f"/task/{wrong.request_id}")


def test_reads_are_tasks_with_their_result_or_error(scene: Scene, page: Browser) -> None:
    with scene.client() as client:
        client.append("seen", ROWS).result(30)
        client.read("seen").result(30)
        client.read("missing").exception(30)

    def reads(table: str) -> list[dict[str, str]]:
        return [r for r in of_table(page, table) if r["Name"] == "deltaq.read" and ended(r)]

    def ended(row: dict[str, str]) -> bool:
        return row["State"] not in ("RECEIVED", "STARTED")

    see(lambda: reads("seen") and reads("missing"), saying=page.tasks)
    assert reads("seen")[0]["Result"].startswith("version 0, 2 rows")
    assert reads("missing")[0]["Exception"].startswith("table_not_found: there is no table missing")


def test_a_backfill_is_the_parent_of_its_parts(scene: Scene, page: Browser) -> None:
    loads = scene.lake.parent / "loads"
    loads.mkdir()
    for number in range(2):
        pq.write_table(ROWS, loads / f"{number}.parquet")
    with scene.client() as client:
        loaded = client.backfill("loaded", loads, parts=2)
        loaded.result(60)
        (loads / "2.csv").write_text("id,note\none,a\n")
        types = {"id": "bigint", "note": "string"}
        refused = client.backfill("refused", loads / "2.csv", schema=types)
        refused.exception(60)

    def states(table: str) -> list[tuple[str, str]]:
        return sorted((r["Name"], r["State"]) for r in of_table(page, table) if is_load(r))

    def is_load(row: dict[str, str]) -> bool:
        return row["Name"] in ("deltaq.backfill", "deltaq.prepare")

    done = [("deltaq.backfill", "SUCCESS"), *[("deltaq.prepare", "SUCCESS")] * 2]
    see(lambda: states("loaded") == done, saying=page.tasks)
    failed = [("deltaq.backfill", "FAILURE"), ("deltaq.prepare", "FAILURE")]
    see(lambda: states("refused") == failed, saying=page.tasks)

    load = page.facts(f"/task/{loaded.request_id}")
    assert load["Result"].startswith("version 0, 4 rows")
    parts = sorted(load["Children"].split())
    assert parts == [f"{loaded.request_id}.{number}" for number in range(2)]
    for number, part in enumerate(parts):
        facts = page.facts(f"/task/{part}")
        assert facts["Parent id"] == loaded.request_id
        assert facts["Keyword arguments"] == f"{{'table': 'loaded', 'part': {number}}}"
        assert facts["Result"] == "2 rows, 1 files"
    why = page.facts(f"/task/{refused.request_id}")["Exception"]
    assert re.search(r"2\.csv.*line 2.*'id'", why)


def test_revoking_a_waiting_request_cancels_it(scene: Scene, page: Browser) -> None:
    with scene.client() as client:
        revoke_a_waiting_request(scene, page, client, table="held")


def revoke_a_waiting_request(scene: Scene, page: Browser, client: Client, *, table: str) -> None:
    """Click on its button in Flower, and see it cancelled."""
    lease = keys.lease(table)
    with scene.redis.connect("admin") as admin:
        admin.hset(lease, mapping={"token": "t", "fence": 1, "holder": "somebody"})
        try:
            future = client.append(table, ROWS)
            task = f"/task/{future.request_id}"
            see(lambda: page.open(task) and page.find("#task-revoke"), saying=page.tasks)

            page.find("#task-revoke")[0].click()

            with pytest.raises(RequestCancelled):
                future.result(20)
        finally:
            admin.delete(lease)
    see(lambda: "REVOKED" in page.open(task))


def test_a_request_that_its_client_cancelled_does_not_stay_waiting(
    scene: Scene, page: Browser
) -> None:
    lease = keys.lease("taken-back")
    with scene.redis.connect("admin") as admin, scene.client() as client:
        admin.hset(lease, mapping={"token": "t", "fence": 1, "holder": "somebody"})
        try:
            future = client.append("taken-back", ROWS)
            see(lambda: "RECEIVED" in page.open(f"/task/{future.request_id}"))
            assert future.cancel()
        finally:
            admin.delete(lease)
    see(lambda: "REVOKED" in page.open(f"/task/{future.request_id}"))


def test_the_worker_is_online_with_the_tasks_it_has_done(scene: Scene, page: Browser) -> None:
    def shown() -> list[int]:
        (row,) = page.workers()
        return [int(row[name]) for name in ("Processed", "Succeeded", "Failed", "Active")]

    def told() -> list[int]:
        states = [task["state"] for task in page.api("/api/tasks?limit=10000").values()]
        return [len(states), states.count("SUCCESS"), states.count("FAILURE"), 0]

    see(lambda: shown() == told(), saying=lambda: (shown(), told()))
    assert min(shown()[:3]) > 0
    see(lambda: online(page) == [WORKER], saying=page.workers)


def test_no_page_and_no_process_shows_a_password_or_rows(scene: Scene, page: Browser) -> None:
    pages = ["/", "/tasks", "/broker", f"/worker/{WORKER}"]
    shown = "".join(page.open(name) for name in pages)
    assert all(queue in shown for queue in keys.QUEUES.values())
    commands = Path(f"/proc/{scene.flower.process.pid}/cmdline").read_text()
    commands += Path(f"/proc/{scene.worker.pid}/cmdline").read_text()
    for secret in (*PASSWORDS.values(), AUTH.partition(":")[2], "rows-do-not-pass-by-here"):
        assert secret not in shown
        assert secret not in commands


@pytest.mark.parametrize("path", ["/", "/tasks", "/broker", "/api/workers", "/api/tasks"])
def test_nobody_gets_in_without_the_password(scene: Scene, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(scene.flower.url + path, timeout=10)
    assert refused.value.code == 401
    refused.value.close()


def test_the_accounts_may_do_all_that_was_needed(scene: Scene, page: Browser) -> None:
    with scene.redis.connect("admin") as admin:
        assert admin.acl_log() == []


def test_a_second_worker_is_seen_with_its_tasks_and_what_is_revoked_is_cancelled_once(
    scene: Scene, page: Browser
) -> None:
    with scene.worker_beside(SECOND):
        see(lambda: set(online(page)) == {WORKER, SECOND}, saying=page.workers)

        def both_have_committed() -> bool:
            client.append("shared", ROWS).result(30)
            done = [r for r in of_table(page, "shared") if r["State"] == "SUCCESS"]
            return {r["Worker"] for r in done if r["Name"] == "deltaq.append"} == {WORKER, SECOND}

        with scene.client() as client:
            see(both_have_committed, saying=page.tasks)
            revoke_a_waiting_request(scene, page, client, table="held-too")
    see(lambda: online(page) == [WORKER], saying=page.workers)


def test_a_killed_worker_is_offline_within_ten_seconds(scene: Scene, page: Browser) -> None:
    see(lambda: online(page) == [WORKER], saying=page.workers)

    os.kill(scene.worker.pid, signal.SIGKILL)

    killed = time.monotonic()
    see(lambda: not online(page), saying=page.workers)
    assert time.monotonic() - killed < 10
    shown = {row["Worker"]: row["Status"] for row in page.workers()}
    assert shown == {WORKER: "Offline", SECOND: "Offline"}  # one killed, one stopped
