"""The process that prepares parts: ``python -m deltaq.worker.backfill.child``.

Of its own, so that neither its memory nor its hold on Python's lock is the worker's, and nice, so
that it takes what live work leaves of the processors. It reads a job a line and answers with a
line, and ends when its input does or its worker is gone.
"""

from __future__ import annotations

import os
import sys
from typing import IO

import msgspec
import pyarrow as pa

from deltaq.worker.backfill.preparing import Job, answer_to

#: Added to the process's niceness.
_NICE = 10
#: Threads in which Arrow decodes and sorts; reading ahead is one more.
_THREADS = 2


def main() -> None:
    """Prepare what is asked for until the input ends."""
    os.nice(_NICE)
    pa.set_cpu_count(_THREADS)
    # Whatever libraries print must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(sys.stdin.buffer, answers)


def _serve(jobs: IO[bytes], answers: IO[bytes]) -> None:
    for line in jobs:
        job = msgspec.json.decode(line, type=Job)
        answers.write(msgspec.json.encode(answer_to(job)) + b"\n")
        answers.flush()
        pa.default_memory_pool().release_unused()


if __name__ == "__main__":
    main()
