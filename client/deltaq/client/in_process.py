"""Tables without a queue: requests are staged and applied in this process."""

from __future__ import annotations

import importlib.metadata
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import pyarrow as pa

from deltaq.client.drafts import check_columns
from deltaq.client.frames import Frame, to_rows
from deltaq.client.results import rows_in
from deltaq.client.staging import Staged, stage
from deltaq.client.users import user_of
from deltaq.tasks.errors import ConfigurationError, StagedDataMissing
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.query import Read
from deltaq.tasks.request import FrameRequest, Request
from deltaq.tasks.staging import StagingArea

if TYPE_CHECKING:  # pydantic takes 0.1 s to import: not before there are settings
    from deltaq.tasks.settings import Settings

#: Entry point that brings what applies requests.
_GROUP = "deltaq.in_process"


class Applier(Protocol):
    """What the worker's room brings to apply requests without a queue."""

    def apply(self, request: Request, *, again: bool) -> Outcome:
        """Apply a staged request; with ``again`` it may have been applied before."""
        ...

    def read(self, query: Read, destination: Path) -> None:
        """Write the rows that a query asks for into a new folder."""
        ...

    def history(self, table: str, limit: int) -> pa.Table:
        """Read the newest commits of a table, newest first."""
        ...

    def exists(self, table: str) -> bool:
        """Tell whether there is a table of that name."""
        ...


class InProcess:
    """Applies requests here and now, by the code that workers have for it.

    Args:
        settings: The settings.

    Raises:
        ConfigurationError: The package for it is not installed.
    """

    def __init__(self, settings: Settings) -> None:
        self.client_id = uuid.uuid4().hex
        self._user = user_of(settings)
        self._staging = StagingArea(settings.staging_root)
        self._min_free_bytes = settings.staging_min_free_bytes
        self._applier = _load_applier(settings)

    def write(self, draft: FrameRequest, frame: Frame, *, again: bool) -> Outcome:
        """Stage a frame and apply its request; with ``again`` unless that was done before."""
        rows = to_rows(frame)
        check_columns(draft, rows.schema.names)
        self._staging.require_room(self._min_free_bytes)
        return self._apply(stage(self._staging, draft, rows, user=self._user), again=again)

    def order(self, draft: Request) -> Outcome:
        """Apply a request without rows."""
        return self._apply(stage(self._staging, draft, None, user=self._user), again=False)

    def read(self, query: Read) -> pa.Table:
        """Read rows of a table."""
        folder = self._staging.new_work_path()
        try:
            self._applier.read(query, folder)
            rows = rows_in(folder)
        finally:
            self._staging.remove_folder(folder)
        if rows is None:
            raise StagedDataMissing(f"{folder}: the rows that were read are gone")
        return rows

    def history(self, table: str, limit: int) -> pa.Table:
        """Read the newest commits of a table, newest first."""
        return self._applier.history(table, limit)

    def exists(self, table: str) -> bool:
        """Tell whether there is a table of that name."""
        return self._applier.exists(table)

    def close(self) -> None:
        """Do nothing: there is neither thread nor connection."""

    def _apply(self, staged: Staged, *, again: bool) -> Outcome:
        request = staged.request
        path = self._staging.request_path(request.table, request.request_id)
        try:
            return self._applier.apply(request, again=again)
        finally:
            # Also when it failed: the caller is told at once, and still has the rows.
            self._staging.remove(path)


def _load_applier(settings: Settings) -> Applier:
    missing: ModuleNotFoundError | None = None
    for entry_point in importlib.metadata.entry_points(group=_GROUP):
        try:
            return cast("Applier", entry_point.load()(settings))
        except ModuleNotFoundError as exc:
            missing = exc
    raise ConfigurationError(
        "no redis_url is set, so that this process has to write the tables itself, and the "
        f"package for that is missing{f' ({missing})' if missing else ''}: set redis_url, or "
        "install it with: pip install 'deltaq[worker]'"
    ) from missing
