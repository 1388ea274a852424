"""Requests that were given up: what they were, why they failed, and their way back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

import msgspec
import pyarrow as pa

from deltaq.tasks.error_info import ErrorInfo
from deltaq.tasks.errors import DeltaqError, InvalidRequest, StorageUnavailable
from deltaq.tasks.location import Location
from deltaq.tasks.request import Request, operation_of
from deltaq.tasks.staging import StagingArea, open_staged, staged_request


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A request that was given up.

    Attributes:
        table: The table it was for.
        request_id: Its id.
        buried_at: When it was given up, UTC.
        size_bytes: Of its file.
        path: The file, with its rows.
        error: Why it was given up; None if nobody left word.
        request: The request itself; None if the file cannot be read.
        problem: Why it cannot be read.

    Examples:
        >>> letter = client.dead_letters("orders")[0]
        >>> letter.operation, letter.error.code
        ('append', 'schema_mismatch')
    """

    table: str
    request_id: str
    buried_at: datetime
    size_bytes: int
    path: Location
    error: ErrorInfo | None = None
    request: Request | None = None
    problem: str | None = None

    @property
    def operation(self) -> str | None:
        """What was asked for; None if the file cannot be read."""
        return operation_of(self.request) if self.request else None

    def rows(self, limit: int) -> pa.Table:
        """Read the first rows of its frame.

        Args:
            limit: Most rows to read.

        Raises:
            StagedDataMissing: The file is gone or damaged.

        Examples:
            >>> letter = client.dead_letters("orders")[0]
            >>> letter.rows(10).to_pydict()
            {'symbol': ['IBM'], 'qty': ['ten']}
        """
        with open_staged(self.path) as file:
            batches = list(islice(file.iter_batches(batch_size=max(1, limit)), 1))
            rows = pa.Table.from_batches(batches, file.schema_arrow)
        return rows.slice(0, limit).replace_schema_metadata(None)


def find_dead_letters(staging: StagingArea, table: str | None = None) -> list[DeadLetter]:
    """List the dead letters of a table, or of all, in the order in which they were given up.

    Raises:
        StorageUnavailable: The staging area cannot be read.
    """
    paths = staging.root.glob(f"dead/{table or '*'}/*.parquet")
    with _reading(staging):
        found = list(_opened(paths))
    return sorted(found, key=lambda letter: (letter.buried_at, letter.request_id))


def find_dead_letter(staging: StagingArea, request_id: str, table: str | None = None) -> DeadLetter:
    """Find a dead letter by its id, and by its table when several have that id.

    Raises:
        InvalidRequest: There is none, or several tables have one.
        StorageUnavailable: The staging area cannot be read.
    """
    dead = staging.root / "dead"
    with _reading(staging):
        folders: Iterable[Location] = [dead / table] if table else ()
        if not table and dead.is_dir():
            folders = dead.iterdir()
        paths = (folder / f"{request_id}.parquet" for folder in folders)
        found = list(_opened(path for path in paths if path.is_file()))
    if not found:
        raise InvalidRequest(
            f"there is no dead letter {request_id}; 'deltaq dead-letters' lists them",
            request_id=request_id,
            table=table,
        )
    if len(found) > 1:
        raise InvalidRequest(
            f"tables {', '.join(letter.table for letter in found)} have a dead letter "
            f"{request_id}: name the table, too",
            request_id=request_id,
        )
    return found[0]


@contextlib.contextmanager
def _reading(staging: StagingArea) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise StorageUnavailable(f"{staging.root}: cannot be read: {exc.strerror}") from exc


def _opened(paths: Iterable[Location]) -> Iterator[DeadLetter]:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # brought back or expired meanwhile
            yield _open(path)


def _open(path: Location) -> DeadLetter:
    file, word = path.stat(), path.with_suffix(".json")
    request, error, problem = None, None, None
    buried_at = file.st_mtime
    try:
        request = staged_request(path)
    except DeltaqError as exc:
        problem = exc.message
    try:
        error = msgspec.json.decode(word.read_bytes(), type=ErrorInfo)
        buried_at = word.stat().st_mtime
    except FileNotFoundError:
        problem = problem or f"{word}: gone, so nobody knows why it was given up"
    except (OSError, msgspec.MsgspecError) as exc:
        problem = problem or f"{word}: cannot be read: {exc}"
    return DeadLetter(
        table=path.parent.name,
        request_id=path.stem,
        buried_at=datetime.fromtimestamp(buried_at, UTC),
        size_bytes=file.st_size,
        path=path,
        error=error,
        request=request,
        problem=problem,
    )
