"""Many requests that wait for no worker, then one worker.

``python -m tests.fault.backlog --requests 200000`` prints what it took.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from deltaq.worker import System, embedded
from tests.fault.backlog_program import TABLE
from tests.support.log import committed_requests
from tests.support.programs import environment
from tests.support.waiting import wait_until

MB = 10**6
#: For this many requests, all of which are in the memory of one Redis and one client.
REQUESTS = 200_000
MAX_REDIS_BYTES, MAX_CLIENT_BYTES = 150 * MB, 500 * MB
#: What an empty Redis takes, whatever is queued.
BASE_REDIS_BYTES = 5 * MB
#: What a request takes of a client: 1,550 bytes, so that the client has 180 MB for its libraries.
CLIENT_BYTES_EACH = 1600
#: What a client takes beside that for a while: buffers and arenas of its threads.
CLIENT_BYTES_BESIDE = 16 * MB


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """What a backlog took.

    Attributes:
        requests: How many there were.
        submit_seconds: Until the last was queued.
        commit_seconds: From the start of a worker until the client had heard of the last.
        commits: Versions of the table.
        redis_bytes: The most that Redis held, outcomes included.
        client_bytes: The most that the program held that made them and waited for them.
        client_base_bytes: What it held when it had made its first: libraries, for the most part.
    """

    requests: int
    submit_seconds: float
    commit_seconds: float
    commits: int
    redis_bytes: int
    client_bytes: int
    client_base_bytes: int

    @property
    def redis_limit(self) -> int:
        each = (MAX_REDIS_BYTES - BASE_REDIS_BYTES) / REQUESTS
        return int(BASE_REDIS_BYTES + each * self.requests)

    @property
    def client_limit(self) -> int:
        grown = CLIENT_BYTES_EACH * self.requests + CLIENT_BYTES_BESIDE
        return min(self.client_base_bytes + grown, MAX_CLIENT_BYTES)

    def text(self) -> str:
        """Write it for people."""
        return "\n".join(
            [
                f"{self.requests} requests queued without a worker in {self.submit_seconds:.1f} s "
                f"({self.requests / self.submit_seconds:.0f} a second)",
                f"committed by one worker in {self.commit_seconds:.1f} s, {self.commits} commits "
                f"({self.requests / self.commit_seconds:.0f} requests a second)",
                f"Redis at most {self.redis_bytes / MB:.0f} MB, allowed "
                f"{self.redis_limit / MB:.0f} MB ({self.redis_bytes / self.requests:.0f} bytes "
                "each)",
                f"client at most {self.client_bytes / MB:.0f} MB, allowed "
                f"{self.client_limit / MB:.0f} MB; {self.client_base_bytes / MB:.0f} MB before",
            ]
        )


def queue_and_commit(folder: Path, *, requests: int) -> Backlog:
    """Queue requests without a worker, then start one, and check that it did all of them."""
    answer = folder / "answer"
    with embedded(folder / "lake", workers=0, spark="off") as system:
        variables = {**system.env, "REQUESTS": str(requests), "ANSWER": str(answer)}
        command = [sys.executable, "-m", "tests.fault.backlog_program"]
        with subprocess.Popen(command, env=environment(**variables)) as program:
            try:
                _wait_for(program, answer, "submit_seconds")
                began = time.time()
                system.start_worker()
                told = _wait_for(program, answer, "told")
                assert program.wait(60) == 0
            finally:
                program.kill()
        commits = _check(system, requests)
        with system.redis.connect() as client:
            memory: Any = client.info("memory")
    return Backlog(
        requests=requests,
        submit_seconds=told["submit_seconds"],
        commit_seconds=told["told"] - began,
        commits=commits,
        redis_bytes=memory["used_memory_peak"],
        client_bytes=told["peak_bytes"],
        client_base_bytes=told["base_bytes"],
    )


def _wait_for(program: subprocess.Popen[bytes], answer: Path, key: str) -> dict[str, Any]:
    def said() -> dict[str, Any]:
        return json.loads(answer.read_text()) if answer.exists() else {}

    wait_until(lambda: key in said() or program.poll() is not None, within=1200)
    facts = said()
    assert key in facts, f"the program ended with {program.returncode}"
    return facts


def _check(system: System, requests: int) -> int:
    """Check that each request is in the table once and in order; return the commits."""
    path = system.settings.lake / TABLE
    done = committed_requests(path, maintenance=False)
    assert [sequence for _, sequence, _ in done] == list(range(1, requests + 1))
    assert len({request_id for *_, request_id in done}) == requests
    rows = DeltaTable(str(path)).to_pyarrow_table(columns=["n"])["n"].to_pylist()
    assert sorted(rows) == list(range(requests))
    staged = system.settings.staging_root / "requests" / TABLE
    wait_until(lambda: not any(staged.iterdir()), within=120)  # the last are still being removed
    return DeltaTable(str(path)).version() + 1


def main() -> int:
    """Queue requests without a worker, commit them with one, and print what it took."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.backlog", description=main.__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deltaq-backlog-") as folder:
        backlog = queue_and_commit(Path(folder), requests=options.requests)
    print(backlog.text())
    if options.json:
        options.json.write_text(json.dumps(asdict(backlog)))
    fits = (
        backlog.redis_bytes <= backlog.redis_limit and backlog.client_bytes <= backlog.client_limit
    )
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main())
