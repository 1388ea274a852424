"""Bulk loads: many files become one commit, and all that is known of it is in the staging area.

::

    backfills/<backfill id>/
        manifest.json     what is loaded into which table, and its parts; written by the client,
                          last, so that a folder without one is not a backfill (yet)
        uploads/*         what the client brought, when the workers do not see its sources
        parts/<n>.json    part n is prepared: its files are in the table's folder, in no version;
                          or it was too large, and this names the pieces that stand for it
        cuts/<n>          empty: the note of part n may be one of pieces
        verdict.json      how it ends; absent while parts are being prepared

The first line of each file is JSON; the second its signature, where workers ask for one. Files
appear whole and durable. Workers find backfills by looking here; Redis carries hints, and claims
that keep two workers from the same part.

When all parts are prepared a worker submits one :class:`~deltaq.tasks.request.Adopt`, whose
request id is the backfill's id: what comes of that request comes of the backfill.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from deltaq.tasks.error_info import ErrorInfo
from deltaq.tasks.errors import DeltaqError, InvalidRequest, StagedDataMissing
from deltaq.tasks.location import Location, below, sync_folder
from deltaq.tasks.manifest import MANIFEST_VERSION, Manifest, Part, Slice
from deltaq.tasks.names import check_client_id, check_request_id, check_table_name
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.signed_files import SignedFiles, storage_errors
from deltaq.tasks.staging import StagingArea

if TYPE_CHECKING:
    from deltaq.tasks.signing import Signer


class PreparedFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file in the table's folder that no version of the table has yet."""

    #: Relative to the table's folder, as on disk.
    path: str
    size_bytes: int
    rows: int
    #: By column, as Delta's log writes them.
    partition_values: dict[str, str | None] = {}
    #: Delta's statistics, JSON.
    stats: str


class Prepared(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker made of a part: files, or pieces to be prepared like parts."""

    number: int
    files: tuple[PreparedFile, ...] = ()
    #: What stands for the part from now on; then there are no files.
    pieces: tuple[Part, ...] = ()
    rows: int = 0
    #: Bytes of source.
    source_bytes: int = 0
    seconds: float
    worker: str
    finished_at_ms: int
    #: Types of the rows' columns, as :class:`Column` has them.
    types: dict[str, str] = {}
    #: Rules of the table that all rows were found to keep.
    rules: tuple[str, ...] = ()
    #: As of the manifest by which it was prepared.
    resumed: int = 0


class Ending(StrEnum):
    """How a backfill ends, or is about to."""

    #: All parts are prepared, and the request to adopt them is on its way.
    ADOPTING = "adopting"
    ADOPTED = "adopted"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a backfill ends. Who writes the first one decides; only ADOPTING is replaced."""

    ending: Ending
    at_ms: int
    #: Of a failure.
    error: ErrorInfo | None = None
    part: int | None = None
    #: Of a failure or cancellation: its prepared files are removed. Resuming waits for it.
    cleaned: bool = False
    #: Of an adoption.
    version: int | None = None
    rows: int | None = None
    files: int | None = None
    size_bytes: int | None = None
    seconds: float | None = None


class Backfill:
    """The folder of one backfill.

    Args:
        area: The staging area.
        backfill_id: The id, as that of a request.
        signer: Signs what is written, and checks what is read, where workers ask for that.
    """

    def __init__(self, area: StagingArea, backfill_id: str, signer: Signer | None = None) -> None:
        self.backfill_id = check_request_id(backfill_id)
        self.folder = backfills_root(area) / backfill_id
        self._area = area
        self._files = SignedFiles(area, f"backfill {backfill_id}", signer)

    @property
    def uploads(self) -> Location:
        """Locate the folder of what the client brought."""
        return self.folder / "uploads"

    def source(self, piece: Slice) -> Location:
        """Locate a source file."""
        return below(self.folder, piece.path)

    def write_manifest(self, manifest: Manifest) -> None:
        """Begin the backfill: from now on workers prepare its parts.

        Raises:
            FileExistsError: There is one of that id.
            StorageUnavailable: The storage refused.
        """
        self._files.create(self.folder / "manifest.json", manifest)

    def manifest(self) -> Manifest:
        """Read what is to be done.

        Raises:
            StagedDataMissing: There is no such backfill, or its manifest is damaged.
            InvalidRequest: The manifest is of a newer version, or of another backfill.
            InvalidSignature: Nobody with the key wrote it.
            StorageUnavailable: The storage refused.
        """
        found = self._files.read(self.folder / "manifest.json", Manifest)
        if found is None:
            raise StagedDataMissing(f"there is no backfill {self.backfill_id}")
        if found.v > MANIFEST_VERSION:
            raise InvalidRequest(
                f"backfill {self.backfill_id} has manifest version {found.v}, this worker reads "
                f"up to {MANIFEST_VERSION}: upgrade the workers before the clients"
            )
        if found.backfill_id != self.backfill_id:
            raise InvalidRequest(
                f"{self.folder}: the manifest is that of backfill {found.backfill_id[:150]!r}"
            )
        check_table_name(found.table)
        check_client_id(found.client_id)
        return found

    def add_part(self, prepared: Prepared) -> None:
        """Note that a part is prepared or cut; nothing happens if either is noted already."""
        if prepared.pieces:
            # First, so that a part that is cut is never taken for one that is prepared.
            with contextlib.suppress(FileExistsError), self._area.create(self._cut(prepared)):
                pass
        with contextlib.suppress(FileExistsError):
            self._files.create(self._part(prepared.number), prepared)

    def part(self, number: int) -> Prepared | None:
        """Read what was made of a part; None if it is neither prepared nor cut."""
        return self._files.read(self._part(number), Prepared)

    def parts(self, manifest: Manifest) -> tuple[Part, ...]:
        """List the parts as they are by now, in order: pieces stand for what was cut.

        Raises:
            StagedDataMissing: A note is damaged.
            InvalidSignature: Nobody with the key wrote it.
            StorageUnavailable: The storage refused.
        """
        found = (self.part(number) for number in self._numbers("cuts", ""))
        # What was cut before a resume may be of sources that have changed.
        notes = (note for note in found if note and note.resumed == manifest.resumed)
        cut = {note.number: note.pieces for note in notes if note.pieces}
        return tuple(parts_after(manifest.parts, cut))

    def prepared(self) -> set[int]:
        """List the numbers of the parts that are prepared or cut."""
        return self._numbers("parts", ".json")

    def unprepared(self, manifest: Manifest) -> list[Part]:
        """List the parts, as they are by now, that are to be prepared."""
        prepared = self.prepared()  # first: what is cut meanwhile must not look prepared
        return [part for part in self.parts(manifest) if part.number not in prepared]

    def decide(self, verdict: Verdict) -> bool:
        """Write how it ends, unless that is decided; tell whether this did."""
        try:
            self._files.create(self._verdict, verdict)
        except FileExistsError:
            return False
        return True

    def amend(self, verdict: Verdict) -> None:
        """Replace the verdict by what came of it."""
        self._files.replace(self._verdict, verdict)

    def replan(self, manifest: Manifest) -> None:
        """Replace the manifest of one that is to be reopened, when nothing of it is prepared."""
        self._files.replace(self.folder / "manifest.json", manifest)

    def verdict(self) -> Verdict | None:
        """Read how it ends; None while parts are being prepared."""
        return self._files.read(self._verdict, Verdict)

    def reopen(self) -> None:
        """Forget that it failed or was cancelled: workers prepare what is missing.

        Raises:
            InvalidRequest: It did not, or its files are still being removed.
        """
        verdict = self.verdict()
        if verdict is None:
            return
        if verdict.ending not in (Ending.FAILED, Ending.CANCELLED):
            raise InvalidRequest(f"backfill {self.backfill_id} is {verdict.ending}")
        if not verdict.cleaned:
            raise InvalidRequest(
                f"backfill {self.backfill_id} {verdict.ending}, and a worker is about to remove "
                "what was prepared; resume it when that is done"
            )
        with storage_errors(self._verdict):
            self._verdict.unlink(missing_ok=True)
            sync_folder(self.folder)

    def forget_parts(self) -> None:
        """Remove what is known of prepared parts, once their files are gone or in the table."""
        self._area.remove_folder(self.folder / "parts")
        self._area.remove_folder(self.folder / "cuts")

    def forget_uploads(self) -> None:
        """Remove what the client brought, once its rows are in the table."""
        self._area.remove_folder(self.uploads)

    def remove(self) -> None:
        """Remove the folder, the manifest first."""
        with storage_errors(self.folder):
            (self.folder / "manifest.json").unlink(missing_ok=True)
        self._area.remove_folder(self.folder)

    @property
    def _verdict(self) -> Location:
        return self.folder / "verdict.json"

    def _part(self, number: int) -> Location:
        return self.folder / "parts" / f"{number}.json"

    def _cut(self, prepared: Prepared) -> Location:
        return self.folder / "cuts" / str(prepared.number)

    def _numbers(self, folder: str, ending: str) -> set[int]:
        """List the numbers that name the files in a folder."""
        with storage_errors(self.folder):
            try:
                names = [file.name for file in (self.folder / folder).iterdir()]
            except FileNotFoundError:
                return set()
        stems = (name.removesuffix(ending) for name in names if name.endswith(ending))
        return {int(stem) for stem in stems if stem.isdigit()}


def parts_after(parts: Sequence[Part], cut: Mapping[int, Sequence[Part]]) -> Iterator[Part]:
    """Put pieces in the place of parts that were cut, and of pieces that were.

    Raises:
        StagedDataMissing: What is told of a part are no pieces of it.
    """
    for part in parts:
        pieces = cut.get(part.number)
        if pieces is None:
            yield part
            continue
        if any(piece.number <= part.number for piece in pieces):
            raise StagedDataMissing(f"part {part.number}: what is noted are no pieces of it")
        yield from parts_after(pieces, cut)


def backfills_root(area: StagingArea) -> Location:
    """Locate the folder of all backfills."""
    return area.root / "backfills"


def list_backfills(area: StagingArea) -> Iterator[str]:
    """List the ids of the backfills that have a manifest, sorted.

    Raises:
        StorageUnavailable: The staging area cannot be read.
    """
    root = backfills_root(area)
    with storage_errors(root):
        try:
            names = sorted(file.name for file in root.iterdir())
        except FileNotFoundError:
            return
    for name in names:
        try:
            check_request_id(name)
        except DeltaqError:
            continue  # nobody's backfill
        if (root / name / "manifest.json").is_file():
            yield name


def unbegun(area: StagingArea, *, older_than: float) -> Iterator[Location]:
    """List the folders without a manifest in which nothing has come for so many seconds.

    Raises:
        StorageUnavailable: The staging area cannot be read.
    """
    root = backfills_root(area)
    limit = time.time() - older_than
    with storage_errors(root):
        for folder in root.iterdir() if root.is_dir() else ():
            if (folder / "manifest.json").is_file():
                continue
            inside = folder.walk_files() if isinstance(folder, S3Path) else _all(folder)
            if max((file.stat().st_mtime for file in inside), default=0.0) < limit:
                yield folder


def _all(folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.rglob("*")


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Who prepares a part, as its key in Redis says; the key expires when the worker is gone."""

    worker: str
    began_at_ms: int
    token: str
