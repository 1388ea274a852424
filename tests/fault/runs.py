"""One run of the matrix: a fault strikes while every table is at its step."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from deltaq.client import Client
from deltaq.worker import System, embedded
from tests.fault.evidence import Evidence, Told, clean, gather, tell
from tests.fault.matrix import Fault, Run
from tests.fault.work import Part, make_table, request_id, submit
from tests.support.disk import Disk, small_disk
from tests.support.faulty import Deed, missing, table_name
from tests.support.paths import as_path
from tests.support.programs import environment
from tests.support.proxy import Proxy
from tests.support.s3 import S3Server
from tests.support.s3_faults import EXPIRED_TOKEN, Cut
from tests.support.s3_proxy import S3Proxy
from tests.support.waiting import wait_until

#: Seconds that a run waits for anything; a JVM starts in 10 to 40 on a busy machine.
_PATIENCE = {"native": 60.0, "spark": 240.0}
#: Answers of S3 that are lost.
_MANY = 100


class Scene:
    """A system, the tables of a run, and a place where the test and a faulty process meet."""

    def __init__(self, run: Run, folder: Path, system: System) -> None:
        self.run = run
        self.system = system
        self.tables = {table_name(step, op): op for step, op in run.cells}
        self.patience = _PATIENCE[run.engine]
        self.log = folder / "client.log"
        self.told: dict[str, Told] = {}
        self._meeting = folder / "meeting"
        self._meeting.mkdir()
        for table, operation in self.tables.items():
            make_table(as_path(system.settings.lake) / table, operation)

    def variables(self, deed: Deed) -> dict[str, str]:
        return {
            "FAULT": deed,
            "FAULT_FOLDER": str(self._meeting),
            "FAULT_TABLES": ",".join(self.tables),
        }

    def wait(self, condition: Callable[[], object], saying: Callable[[], object] = str) -> None:
        wait_until(condition, within=self.patience, saying=lambda: (saying(), self._last_words()))

    def wait_for_all_at_their_steps(self, condition: Callable[[], object] | None = None) -> None:
        """Wait until the faulty process has come to its deed."""
        here = (self._meeting / "here").exists
        self.wait(condition or here, saying=lambda: missing(self._meeting))

    def go_on(self) -> None:
        (self._meeting / "go").touch()

    def restart_redis(self) -> None:
        server = self.system.redis._process
        assert server is not None
        server.kill()
        server.wait()
        self.system.redis.start()

    def end_workers(self) -> None:
        """Stop the workers in order, which those that were paused or cut off must obey, too."""
        for worker in self.system.workers:
            worker.terminate()
        self.wait(lambda: all(w.poll() is not None for w in self.system.workers))
        codes = {w.returncode for w in self.system.workers}
        assert codes <= {0, -signal.SIGKILL}, f"exit codes {codes}: {self._last_words()}"

    def _last_words(self) -> str:
        logs = [log for log in (self.system.log, self.log) if log.exists()]
        return "\n".join(log.read_text(errors="replace")[-3000:] for log in logs)


class WorkerScene(Scene):
    """The fault is the worker's; the client is the test itself."""

    def __init__(self, run: Run, folder: Path, system: System, client: Client) -> None:
        super().__init__(run, folder, system)
        self._client = client
        self._futures: dict[str, dict[str, Any]] = {table: {} for table in self.tables}
        for part in run.parts[:-1]:
            self.submit(part)

    def submit(self, part: Part) -> None:
        for table, operation in self.tables.items():
            future = submit(self._client, table, operation, part)
            self._futures[table][request_id(table, part)] = future

    def start_faulty(self, deed: Deed, *, redis_url: str | None = None) -> subprocess.Popen[bytes]:
        through = {"FAULT_REDIS_URL": redis_url} if redis_url else {}
        with _environment(**self.variables(deed), **through):
            self.system.start_worker(module="tests.support.faulty_worker")
        return self.system.workers[-1]

    def settle(self) -> None:
        """Submit one request more on each table and wait for the outcome of all."""
        self.submit(self.run.parts[-1])
        futures = [f for by_id in self._futures.values() for f in by_id.values()]
        self.wait(
            lambda: all(f.done() for f in futures),
            saying=lambda: f"pending: {[f.request_id for f in futures if not f.done()]}",
        )
        self.told = {table: tell(futures) for table, futures in self._futures.items()}


def kill(scene: WorkerScene) -> None:
    worker = scene.start_faulty(Deed.KILL)
    scene.wait_for_all_at_their_steps(lambda: worker.poll() is not None)
    assert worker.returncode == -signal.SIGKILL
    scene.system.start_worker()
    scene.settle()


def pause_past_lease(scene: WorkerScene) -> None:
    worker = scene.start_faulty(Deed.STOP)
    try:
        scene.wait_for_all_at_their_steps(lambda: _is_stopped(worker.pid))
        scene.system.start_worker()
        scene.settle()
    finally:
        worker.send_signal(signal.SIGCONT)
    scene.system.wait_ready(scene.patience)


def redis_restart(scene: WorkerScene) -> None:
    scene.start_faulty(Deed.WAIT)
    scene.wait_for_all_at_their_steps()
    scene.restart_redis()
    scene.go_on()
    scene.settle()
    scene.system.wait_ready(scene.patience)


def redis_emptied(scene: WorkerScene) -> None:
    scene.start_faulty(Deed.WAIT)
    scene.wait_for_all_at_their_steps()
    with scene.system.redis.connect() as redis:
        redis.flushall()
    scene.go_on()
    scene.settle()
    scene.system.wait_ready(scene.patience)


def connection_cut(scene: WorkerScene) -> None:
    with Proxy(Path(scene.system.redis.url.removeprefix("unix://"))) as proxy:
        scene.start_faulty(Deed.WAIT, redis_url=proxy.url)
        scene.wait_for_all_at_their_steps()
        proxy.cut()
        scene.go_on()
        scene.system.start_worker()
        scene.settle()
        proxy.heal()
        scene.system.wait_ready(scene.patience)
        scene.end_workers()


def s3_cut(scene: WorkerScene, proxy: S3Proxy) -> None:
    scene.start_faulty(Deed.WAIT)
    scene.wait_for_all_at_their_steps()
    proxy.cut()
    proxy.inflict(Cut.ANSWER, every=3, times=_MANY)
    scene.go_on()
    scene.settle()
    scene.system.wait_ready(scene.patience)


def s3_refuses(scene: WorkerScene, proxy: S3Proxy) -> None:
    scene.start_faulty(Deed.WAIT)
    scene.wait_for_all_at_their_steps()
    proxy.inflict(EXPIRED_TOKEN)
    scene.go_on()
    scene.wait(lambda: "credentials have expired" in scene.system.log.read_text())
    proxy.heal()
    scene.settle()
    scene.system.wait_ready(scene.patience)


def disk_full(scene: WorkerScene, disk: Disk) -> None:
    scene.start_faulty(Deed.WAIT)
    scene.wait_for_all_at_their_steps()
    disk.fill()
    scene.go_on()
    scene.wait(lambda: "o space left" in scene.system.log.read_text())
    disk.free()
    scene.settle()
    scene.system.wait_ready(scene.patience)


def jvm_killed(scene: WorkerScene) -> None:
    worker = scene.start_faulty(Deed.WAIT)
    scene.wait_for_all_at_their_steps()
    for process in psutil.Process(worker.pid).children(recursive=True):
        process.kill()
    scene.go_on()
    scene.settle()


class ClientScene(Scene):
    """The fault is the client's: a program that submits and waits for the outcomes."""

    def __init__(self, run: Run, folder: Path, system: System) -> None:
        super().__init__(run, folder, system)
        self._answers = folder / "answers.json"
        self._clients: list[subprocess.Popen[bytes]] = []
        system.start_worker()

    def start_client(
        self, deed: Deed | None, *, redis_url: str | None = None
    ) -> subprocess.Popen[bytes]:
        through = {"DELTAQ_REDIS_URL": redis_url} if redis_url else {}
        variables = {
            **self.system.env,
            **(self.variables(deed) if deed else {}),
            **through,
            # The disk that is filled is smaller than the room that is left free by default.
            "DELTAQ_STAGING_MIN_FREE_BYTES": "0",
            "ANSWERS": str(self._answers),
            "TABLES": json.dumps(self.tables),
        }
        with self.log.open("ab") as log:
            client = subprocess.Popen(
                [sys.executable, "-m", "tests.fault.client_program"],
                env=environment(**variables),
                stdout=log,
                stderr=log,
            )
        self._clients.append(client)
        return client

    def settle(self, client: subprocess.Popen[bytes]) -> None:
        """Wait for the program's end and read what it was told."""
        self.wait(lambda: client.poll() is not None)
        assert client.returncode == 0, self._last_words()
        for table, told in json.loads(self._answers.read_text()).items():
            self.told[table] = Told(**told)

    def close(self) -> None:
        for client in self._clients:
            client.kill()
            client.wait()


def client_kill(scene: ClientScene) -> None:
    first = scene.start_client(Deed.KILL)
    scene.wait_for_all_at_their_steps(lambda: first.poll() is not None)
    assert first.returncode == -signal.SIGKILL
    scene.settle(scene.start_client(None))


def client_pause(scene: ClientScene) -> None:
    client = scene.start_client(Deed.STOP)
    try:
        scene.wait_for_all_at_their_steps(lambda: _is_stopped(client.pid))
        with scene.system.redis.connect() as redis:
            scene.wait(lambda: not redis.exists("dq:tables"))
    finally:
        client.send_signal(signal.SIGCONT)
    scene.settle(client)


def client_redis_restart(scene: ClientScene) -> None:
    client = scene.start_client(Deed.WAIT)
    scene.wait_for_all_at_their_steps()
    scene.restart_redis()
    scene.go_on()
    scene.settle(client)


def client_connection_cut(scene: ClientScene) -> None:
    with Proxy(Path(scene.system.redis.url.removeprefix("unix://"))) as proxy:
        client = scene.start_client(Deed.WAIT, redis_url=proxy.url)
        scene.wait_for_all_at_their_steps()
        proxy.cut()
        scene.go_on()
        scene.wait(lambda: "outcomes are not heard" in scene.log.read_text())
        proxy.heal()
        scene.settle(client)


def client_disk_full(scene: ClientScene, disk: Disk) -> None:
    client = scene.start_client(Deed.WAIT)
    scene.wait_for_all_at_their_steps()
    disk.fill()
    scene.go_on()
    scene.wait(lambda: "o space left" in scene.log.read_text())
    disk.free()
    scene.settle(client)


_OF_WORKERS: dict[Fault, Callable[..., None]] = {
    Fault.KILL: kill,
    Fault.PAUSE_PAST_LEASE: pause_past_lease,
    Fault.REDIS_RESTART: redis_restart,
    Fault.REDIS_EMPTIED: redis_emptied,
    Fault.CONNECTION_CUT: connection_cut,
    Fault.S3_CUT: s3_cut,
    Fault.S3_REFUSES: s3_refuses,
    Fault.DISK_FULL: disk_full,
    Fault.JVM_KILLED: jvm_killed,
}
_OF_CLIENTS: dict[Fault, Callable[..., None]] = {
    Fault.CLIENT_KILL: client_kill,
    Fault.CLIENT_PAUSE: client_pause,
    Fault.CLIENT_REDIS_RESTART: client_redis_restart,
    Fault.CLIENT_CONNECTION_CUT: client_connection_cut,
    Fault.CLIENT_DISK_FULL: client_disk_full,
}


def perform(run: Run, folder: Path, server: S3Server | None) -> dict[str, Evidence]:
    """Let a fault happen and return what is found of each table afterwards."""
    with ExitStack() as stack:
        system, tool = (
            _system_in_s3(run, stack, server) if server else _system_on_disk(run, stack, folder)
        )
        tools = [tool] if tool else []
        scene: Scene
        if run.fault in _OF_WORKERS:
            client = stack.enter_context(system.client())
            worker_scene = scene = WorkerScene(run, folder, system, client)
            _OF_WORKERS[run.fault](worker_scene, *tools)
        else:
            client_scene = scene = ClientScene(run, folder, system)
            stack.callback(client_scene.close)
            _OF_CLIENTS[run.fault](client_scene, *tools)
        scene.end_workers()
        clean(system)
        said = system.log.read_text()
        assert "raised unexpected" not in said, said
        return {table: gather(system, table, scene.told[table]) for table in scene.tables}


def _system_on_disk(run: Run, stack: ExitStack, folder: Path) -> tuple[System, Disk | None]:
    lake, staging, disk = folder / "lake", folder / "staging", None
    if run.fault in (Fault.DISK_FULL, Fault.CLIENT_DISK_FULL):
        disk = stack.enter_context(small_disk(folder / "disk", size="32m"))
        if run.fault is Fault.DISK_FULL:
            lake = disk.root / "lake"
        else:
            staging = disk.root / "staging"
    # Redis ends itself when its own disk is full, which is not what is tried here.
    (folder / "redis").mkdir()
    staging.mkdir()
    (staging / "redis").symlink_to(folder / "redis")
    system = stack.enter_context(embedded(lake, workers=0, staging=staging, **_settings(run)))
    return system, disk


def _system_in_s3(run: Run, stack: ExitStack, server: S3Server) -> tuple[System, S3Proxy | None]:
    lake = f"s3://{server.bucket}/{run.name}-{secrets.token_hex(4)}"
    # For delta-rs, by which the test looks at tables past the proxy.
    stack.enter_context(_environment(**server.storage_options()))
    harmed = run.fault in (Fault.S3_CUT, Fault.S3_REFUSES)
    proxy = stack.enter_context(S3Proxy(server)) if harmed else None
    given = {**_settings(run), **server.settings(proxy.endpoint if proxy else None)}
    remains = stack.enter_context(ExitStack())
    system = stack.enter_context(embedded(lake, workers=0, **given))
    remains.callback(shutil.rmtree, system.log.parent)
    return system, proxy


def _settings(run: Run) -> dict[str, Any]:
    native = run.engine == "native"
    return {
        "engine": run.engine,
        "spark": "off" if native else "on",
        "spark_master": "local[2]",
        "lease_ttl": _lease_ttl(run),
        "sweep_interval": 0.5 if native else 2.0,
        "retry_seconds": 0.5,
        # Every table is held up at the same time, each in a thread.
        "concurrency": 128,
    }


def _lease_ttl(run: Run) -> float:
    if run.engine == "spark":
        return 5.0  # or less is lost on a busy machine, and jobs of Spark with it, again and again
    # A holder that is forgotten goes on renewing in vain, beside the next one.
    return 2.0 if run.fault is Fault.REDIS_EMPTIED else 1.0


def _is_stopped(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
