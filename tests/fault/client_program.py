"""A program that submits requests on many tables from many threads and waits for the outcomes.

Run with ``python -m``; a fault that FAULT names hits it on the way.
"""

from __future__ import annotations

import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deltaq.client import Client, StorageUnavailable
from tests.fault.evidence import Told, tell
from tests.fault.work import Operation, Part, request_id, submit
from tests.support.faulty import Saboteur
from tests.support.steps import SUBMIT_STEPS, install

logger = logging.getLogger("program")

#: Seconds to wait for an outcome.
_PATIENCE = 60.0


def _submit_all(client: Client, table: str, operation: Operation) -> Told:
    futures = {}
    for part in Part:
        futures[request_id(table, part)] = _submit(client, table, operation, part)
    for future in futures.values():
        future.exception(_PATIENCE)
    return tell(futures)


def _submit(client: Client, table: str, operation: Operation, part: Part) -> Any:
    while True:
        try:
            return submit(client, table, operation, part)
        except StorageUnavailable as exc:
            logger.warning("%s; trying again", exc)
            time.sleep(0.05)


def _main() -> None:
    logging.basicConfig()
    tables = json.loads(os.environ["TABLES"])
    if "FAULT" in os.environ:
        install(SUBMIT_STEPS, Saboteur.from_environment().reached)
    with Client() as client, ThreadPoolExecutor(len(tables)) as pool:
        told = {
            table: pool.submit(_submit_all, client, table, Operation(operation))
            for table, operation in tables.items()
        }
        answers = {table: asdict(future.result()) for table, future in told.items()}
    Path(os.environ["ANSWERS"]).write_text(json.dumps(answers))


if __name__ == "__main__":
    _main()
