"""What happens to the system every few seconds."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable

import psutil

from deltaq.worker import System
from tests.support.proxy import Proxy

#: Seconds between two faults, least and most.
_BETWEEN = 2.0, 5.0


class Chaos:
    """Hurts two workers, Redis, and the network between them.

    One worker is killed over and over. The other, the survivor, is only paused and cut off, so
    that its memory and its open files can be watched for the whole time.

    Args:
        system: The system, whose workers this starts.
        proxy: Between Redis on the one hand, the survivor and some writers on the other.
        seed: Of the choice.
    """

    def __init__(self, system: System, proxy: Proxy, *, seed: int) -> None:
        self._system = system
        self._proxy = proxy
        self._random = random.Random(seed)
        self._waiting = threading.Event()
        self.faults: Counter[str] = Counter()
        system.start_worker(module="tests.support.worker_by_proxy")
        self.survivor = system.workers[-1]
        system.start_worker()
        self._victim = system.workers[-1]

    def run(self, until: float) -> None:
        """Let one thing after another happen until ``time.monotonic()`` is ``until``."""
        kinds: list[Callable[[], None]] = [
            *(self.kill_worker, self.kill_worker, self.pause_worker),
            *(self.restart_redis, self.cut_connections, self.cut_connections),
        ]
        if self._system.settings.spark == "on":
            kinds.append(self.kill_jvm)
        while time.monotonic() < until:
            self._sleep(*_BETWEEN)
            fault = self._random.choice(kinds)
            fault()
            self.faults[fault.__name__] += 1
            assert self.survivor.poll() is None, "the worker that nobody killed has ended"
            assert self._victim.poll() is None, "a worker has ended by itself"

    def kill_worker(self) -> None:
        self._victim.kill()
        self._victim.wait()
        # Else hundreds of dead processes would be looked at for the rest of the time.
        self._system.workers.remove(self._victim)
        self._system.start_worker()
        self._victim = self._system.workers[-1]

    def pause_worker(self) -> None:
        """Stop a worker for longer than its leases last."""
        worker = self._random.choice([self.survivor, self._victim])
        worker.send_signal(signal.SIGSTOP)
        try:
            ttl = self._system.settings.lease_ttl
            self._sleep(ttl + 0.5, ttl + 2)
        finally:
            worker.send_signal(signal.SIGCONT)

    def restart_redis(self) -> None:
        restart_redis(self._system)

    def cut_connections(self) -> None:
        self._proxy.cut()
        self._sleep(0.1, 3.0)
        self._proxy.heal()

    def kill_jvm(self) -> None:
        worker = self._random.choice([self.survivor, self._victim])
        for process in psutil.Process(worker.pid).children(recursive=True):
            process.kill()

    def _sleep(self, least: float, most: float) -> None:
        self._waiting.wait(self._random.uniform(least, most))


def restart_redis(system: System) -> None:
    """End Redis as a crash would and start it again on its data."""
    server = system.redis._process
    assert isinstance(server, subprocess.Popen)
    server.kill()
    server.wait()
    system.redis.start()
