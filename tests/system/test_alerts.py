"""Each alert is provoked on a real system, under a real Prometheus, and clears by itself.

The rules are those that are shipped, with shorter times.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from deltaq.client import Client
from deltaq.tasks import keys
from deltaq.tasks.settings import load_settings
from tests.support.disk import Disk, small_disk
from tests.support.programs import environment
from tests.support.prometheus import ALERTS, Prometheus, free_port, get, prometheus
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until as wait_until_often

ROWS = pa.table({"n": [1]})
#: Workers and Prometheus are asked for pages, which take their time to make.
wait_until = partial(wait_until_often, every=0.1)
#: Seconds in which a worker's end must be known everywhere.
KNOWN_WITHIN = 10.0

pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]


class Site:
    """Workers on a small disk, two of them always, and a Prometheus that watches them."""

    def __init__(self, folder: Path, redis: RedisServer, disk: Disk) -> None:
        self.folder, self.redis, self.disk = folder, redis, disk
        self.ports = {name: free_port() for name in "abc"}
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.settings = {
            "lake": str(disk.root / "lake"),
            "staging": str(folder / "staging"),
            "redis_url": redis.url,
            "staging_min_free_bytes": str(1 << 20),
            "spark": "off",
            "retry_seconds": "0.5",
            "lease_ttl": "1",
        }
        self.prometheus: Prometheus

    def start(self, name: str, *, prefix: Sequence[str] = (), **settings: str) -> None:
        given = {**self.settings, **settings}
        env = environment(**{f"DELTAQ_{n.upper()}": v for n, v in given.items()})
        command = [sys.executable, "-m", "deltaq.worker", "worker", "--name", f"{name}@test"]
        command = [*prefix, *command, "--metrics-port", str(self.ports[name])]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.workers[name] = subprocess.Popen(command, env=env, stdout=log, stderr=log)

    def end(self, *names: str, how: signal.Signals) -> None:
        for name in names:
            self.workers[name].send_signal(how)
        for name in names:
            self.workers[name].wait(30)

    def page(self, name: str, path: str) -> tuple[int, str]:
        try:
            return get(f"http://127.0.0.1:{self.ports[name]}/{path}")
        except OSError as exc:
            return 0, str(exc)

    def wait_ready(self) -> None:
        for name in "ab":
            wait_until(
                lambda name=name: self.page(name, "readyz")[0] == 200,  # type: ignore[misc]
                within=30,
                saying=lambda name=name: self.page(name, "readyz"),  # type: ignore[misc]
            )

    def wait_firing(self, *alerts: str, within: float = 20.0) -> None:
        wait_until(
            lambda: self.prometheus.firing() >= set(alerts),
            within=within,
            saying=self.prometheus.firing,
        )

    def wait_calm(self) -> None:
        """Wait until no alert fires."""
        wait_until(lambda: not self.prometheus.firing(), within=20, saying=self.prometheus.firing)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("alerts")
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(durable=True))
        disk = stack.enter_context(small_disk(folder / "disk", size="16m"))
        site = Site(folder, redis, disk)
        try:
            site.start("a")
            site.start("b")
            site.wait_ready()
            site.prometheus = stack.enter_context(
                prometheus(
                    folder / "prometheus", rules=_quick_rules(), ports=[*site.ports.values()]
                )
            )
            # From now on it sees counters go up.
            wait_until(lambda: len(site.prometheus.query("deltaq_ready == 1")) == 2, within=20)
            yield site
        finally:
            for worker in site.workers.values():
                worker.kill()
                worker.wait()


@pytest.fixture
def client(site: Site) -> Iterator[Client]:
    with Client(load_settings(**site.settings)) as client:
        yield client


def _quick_rules() -> str:
    """Shorten the times of the shipped rules; nothing else is changed."""
    text = re.sub(r"for: \w+", "for: 0s", ALERTS.read_text())
    return re.sub(r"> (120|21600)\b", "> 1", text.replace("[15m]", "[6s]"))


def test_a_request_that_fails_for_good_is_told_and_passes(site: Site, client: Client) -> None:
    client.append("orders", ROWS).result(30)
    site.wait_calm()

    assert client.append("orders", pa.table({"n": ["one"]})).exception(30) is not None

    site.wait_firing("DeltaqDeadLetters")
    site.wait_calm()


def test_a_full_disk_makes_workers_unready_and_requests_old_until_there_is_room(
    site: Site, client: Client
) -> None:
    site.wait_calm()
    site.disk.fill()
    futures = [client.append("prices", ROWS), client.append("loads", ROWS, lane="bulk")]

    site.wait_firing(
        "DeltaqStorageUnusable",
        "DeltaqDiskFilling",
        "DeltaqTablesRetrying",
        "DeltaqQueueTooOld",
        "DeltaqBacklogTooOld",
    )
    status, said = site.page("a", "readyz")
    assert status == 503
    problems = json.loads(said)["problems"]
    assert set(problems) == {"lake"}
    assert "0 bytes are free" in problems["lake"]

    site.disk.free()
    assert [future.result(30).version for future in futures] == [0, 0]
    site.wait_calm()
    site.wait_ready()


def test_leases_that_are_lost_again_and_again_are_told(site: Site, client: Client) -> None:
    site.wait_calm()
    site.disk.fill()  # so that a worker keeps the lease, and tries again
    future = client.append("flapping", ROWS)
    with site.redis.client() as redis:

        def flaps() -> bool:
            redis.delete(keys.lease("flapping"))
            return "DeltaqLeaseFlapping" in site.prometheus.firing()

        wait_until(flaps, within=30, saying=site.prometheus.firing)

    site.disk.free()
    assert future.result(30).version == 0
    site.wait_calm()


def test_a_killed_worker_is_missed_within_ten_seconds_until_it_is_back(site: Site) -> None:
    site.wait_calm()
    site.end("b", how=signal.SIGKILL)

    wait_until(
        lambda: json.loads(site.page("a", "readyz")[1])["workers"]["lost"] == ["b@test"],
        within=KNOWN_WITHIN,
        saying=lambda: site.page("a", "readyz"),
    )
    assert 'deltaq_workers{state="lost"} 1.0' in site.page("a", "metrics")[1]
    assert site.page("a", "readyz")[0] == 200
    site.wait_firing("DeltaqWorkerLost")

    site.start("b")
    site.wait_ready()
    site.wait_calm()


def test_a_redis_that_hangs_is_told_by_all_workers(site: Site, client: Client) -> None:
    site.wait_calm()
    site.redis.pause()
    try:
        site.wait_firing("DeltaqRedisUnreachable", within=30)
        status, said = site.page("a", "readyz")
        assert (status, list(json.loads(said)["problems"])) == (503, ["redis"])
        assert site.page("a", "healthz")[0] == 200
        assert "deltaq_queue_requests{" not in site.page("a", "metrics")[1]
    finally:
        site.redis.resume()

    site.wait_ready()
    assert client.append("orders", ROWS).result(30)
    site.wait_calm()


def test_the_end_of_all_workers_is_told_until_there_are_some(site: Site, client: Client) -> None:
    site.wait_calm()
    site.end("a", "b", how=signal.SIGTERM)
    future = client.append("orders", ROWS)

    site.wait_firing("DeltaqNoWorker")
    with site.redis.client() as redis:
        assert redis.zcard(keys.WORKERS) == 0  # they said goodbye

    for name in "ab":
        site.start(name)
    assert future.result(30)
    site.wait_ready()
    site.wait_calm()


class Memory:
    """The memory of a machine as one worker sees it: its own ``/proc/meminfo``, which a test writes."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "meminfo"
        self._real = Path("/proc/meminfo").read_text()
        self.use(0.5)
        #: What starts a program that sees it.
        self.prefix = ["unshare", "--mount", "sh", "-c"]
        self.prefix += ['mount --bind "$0" /proc/meminfo && exec "$@"', str(self._file)]

    def use(self, share: float) -> None:
        """Have a share of it used."""
        total = int(re.search(r"MemTotal: +(\d+)", self._real)[1])  # type: ignore[index]
        free = f"MemAvailable: {int(total * (1 - share))} kB"
        self._file.write_text(re.sub("MemAvailable: .*", free, self._real))


@pytest.fixture(scope="module")
def memory(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Memory:
    """That of worker c, which is started with it, and with Spark."""
    memory = Memory(tmp_path_factory.mktemp("memory"))
    site.start("c", prefix=memory.prefix, spark="on", spark_master="local[1]")
    return memory


def test_a_full_memory_is_told_until_there_is_some(site: Site, memory: Memory) -> None:
    wait_until(lambda: site.page("c", "healthz")[0] == 200, within=30)
    memory.use(0.95)

    site.wait_firing("DeltaqMemoryHigh")
    assert "deltaq_memory_used_ratio 0.95" in site.page("c", "metrics")[1]

    memory.use(0.5)
    wait_until(
        lambda: "DeltaqMemoryHigh" not in site.prometheus.firing(),
        within=20,
        saying=site.prometheus.firing,
    )


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("memory")
def test_a_spark_that_died_is_told_until_another_is_warm(site: Site) -> None:
    def is_warm() -> bool:
        warm = 'deltaq_spark_state{state="ready"} 1.0' in site.page("c", "metrics")[1]
        return warm and "DeltaqSparkDown" not in site.prometheus.firing()

    wait_until(is_warm, within=240, saying=lambda: site.page("c", "readyz"))
    (jvm,) = psutil.Process(site.workers["c"].pid).children()
    jvm.kill()

    site.wait_firing("DeltaqSparkDown")
    status, said = site.page("c", "readyz")
    assert (status, list(json.loads(said)["problems"])) == (503, ["spark"])

    wait_until(is_warm, within=240, saying=lambda: site.page("c", "readyz"))
