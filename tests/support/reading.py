"""A worker that only answers queries, in this process: as quick to start as to stop."""

from __future__ import annotations

import base64
import json
import threading
from functools import partial
from types import TracebackType

from deltaq.tasks import keys
from deltaq.tasks.broker import ask, make_celery
from deltaq.tasks.connection import connect
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.lake import Lake
from deltaq.worker.reads import Reader
from deltaq.worker.router import Router


class ReadingWorker:
    """Takes queries from Celery's queue and answers them with the native engine."""

    def __init__(self, settings: Settings) -> None:
        self._client = connect(settings)
        self._celery = make_celery(settings)
        lake, staging = Lake(settings.lake), StagingArea(settings.staging_root)
        native = NativeEngine(lake, staging)
        self.reader = Reader(
            router=Router(native=native, spark=None, settings=settings),
            lake=lake,
            staging=staging,
            inbox=Inbox(self._client, settings),
            ask=partial(ask, self._celery),
            keep=settings.read_ttl,
        )
        #: How many queries.
        self.answered = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stopping.is_set():
            raw = self._client.lpop(keys.READ_QUEUE)
            if raw is None:
                self._stopping.wait(0.002)
                continue
            body = json.loads(base64.b64decode(json.loads(str(raw))["body"]))
            self.reader.answer(body[0][0])
            self.answered += 1

    def __enter__(self) -> ReadingWorker:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self.reader.close()
        self._celery.close()
        self._client.close()
