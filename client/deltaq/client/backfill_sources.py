"""Which files a backfill reads: of paths, globs and folders."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pyarrow as pa

from deltaq.client.tabular import BY_SUFFIX, COMPRESSED, Format
from deltaq.tasks.errors import InvalidFrame, InvalidRequest, StorageUnavailable
from deltaq.tasks.location import Location, below
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.suggest import did_you_mean

#: A folder that stands for the rows whose partition column is null, by Hive's convention.
NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
#: Files and folders whose names begin so are not data, by the convention of Spark and Hive.
_HIDDEN = ("_", ".")


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file to read.

    Attributes:
        path: Where it is, absolute.
        format: How its rows are written.
        size_bytes: Its size.
        values: What the folders above it, such as ``symbol=IBM``, say of all its rows; None is
            null.
    """

    path: Location
    format: Format
    size_bytes: int
    values: dict[str, str | None] = field(default_factory=dict)

    @property
    def compressed(self) -> bool:
        """Whether it can only be read from its beginning."""
        return self.path.suffix.lower() in COMPRESSED


@contextlib.contextmanager
def errors_of(path: Location, kind: str) -> Iterator[None]:
    """Name a file in what is wrong with it while it is read.

    Raises:
        InvalidFrame: It is no file of that kind, or has what Delta cannot hold.
        StorageUnavailable: It cannot be read now.
    """
    try:
        yield
    except InvalidFrame as exc:
        raise InvalidFrame(f"{path}: {exc.message}", details=exc.details) from exc
    except (pa.ArrowException, OSError) as exc:
        if isinstance(exc, OSError) and exc.errno is not None:  # else it is of the content
            raise StorageUnavailable(f"{path}: cannot be read: {exc.strerror}") from exc
        raise InvalidFrame(
            f"{path}: it cannot be read as {kind}: {exc}", details={"path": str(path)}
        ) from exc


def find_files(
    sources: Iterable[str | os.PathLike[str] | S3Path], *, near: Location | None = None
) -> list[SourceFile]:
    """List the files of paths, globs and folders, each once; of a folder all below it, sorted.

    Names that begin with ``_`` or ``.`` are no data, nor are empty text files.

    Args:
        sources: Paths on a disk, or ``s3://bucket/...``.
        near: A folder; if it is in S3, sources there are reached as it is.

    Raises:
        InvalidRequest: Something is not there or matches nothing, has an ending that tells no
            format, or is a Delta table.
        StorageUnavailable: It cannot be read now.
    """
    found: dict[Location, SourceFile] = {}
    try:
        for source in sources:
            for path in _paths(str(source), near):
                found.setdefault(path, _source_file(path))
    except OSError as exc:
        raise StorageUnavailable(f"{exc.filename}: cannot be read: {exc.strerror}") from exc
    return [f for f in found.values() if f.size_bytes or f.format is Format.PARQUET]


def _paths(source: str, near: Location | None) -> Iterator[Location]:
    if source.startswith(("s3://", "s3a://")):
        if not isinstance(near, S3Path):
            raise InvalidRequest(f"{source}: sources are in S3 only where the lake is, too")
        yield from _s3_files(below(near, source.replace("s3a://", "s3://", 1)), source)
        return
    if "://" in source:
        raise InvalidRequest(f"{source}: sources are local paths that workers see, or s3://...")
    path = Path(source).expanduser().absolute()
    if path.is_dir():
        yield from _below(path)
    elif path.exists():
        yield path
    elif glob.has_magic(source):
        yield from _matching(path, source)
    else:
        raise InvalidRequest(f"{source}: there is no such file or folder{_meant(path)}")


def _s3_files(path: Location, source: str) -> Iterator[S3Path]:
    """List the objects that a name in S3 stands for: one, a folder or a glob, sorted."""
    assert isinstance(path, S3Path)
    if glob.has_magic(path.key):
        top, pattern = _split(path.key)
        files = list(S3Path(path.bucket, top).glob(pattern))
    elif path.is_file():
        files = [path]
    else:
        files = [f for f in path.walk_files() if not _hidden(f.relative_to(path))]
        if any(f.key.startswith(f"{path.key}/_delta_log/") for f in path.walk_files()):
            raise _is_table(path)
    if not (files := [f for f in files if not _marks_a_folder(f)]):
        raise InvalidRequest(f"{source}: no object is there, or matches")
    yield from sorted(f for f in files if not f.name.startswith(_HIDDEN))


def _marks_a_folder(path: S3Path) -> bool:
    """Tell the empty objects that Hadoop and consoles make for folders: ``year=2024/``."""
    return path.suffix.lower() not in BY_SUFFIX and path.stat().st_size == 0


def _split(key: str) -> tuple[str, str]:
    """Part the name of a glob: the folder without a wildcard, and the rest."""
    parts = key.split("/")
    first = next(n for n, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:first]), "/".join(parts[first:])


def _hidden(inside: PurePosixPath) -> bool:
    return any(part.startswith(_HIDDEN) for part in inside.parts)


def _matching(pattern: Path, source: str) -> Iterator[Path]:
    matches = sorted(
        match
        for match in Path(pattern.anchor).glob(os.fspath(pattern.relative_to(pattern.anchor)))
        if not match.name.startswith(_HIDDEN)
    )
    files = [file for match in matches for file in (_below(match) if match.is_dir() else [match])]
    if not files:
        raise InvalidRequest(f"{source}: no file matches")
    for folder in {file.parent for file in files}:
        if (folder / "_delta_log").is_dir():
            raise _is_table(folder)
    yield from files


def _below(folder: Path) -> Iterator[Path]:
    found = False
    for name, folders, files in os.walk(folder, onerror=_raise):
        here = Path(name)
        if "_delta_log" in folders:
            raise _is_table(here)
        folders[:] = sorted(f for f in folders if not f.startswith(_HIDDEN))
        for file in sorted(f for f in files if not f.startswith(_HIDDEN)):
            found = True
            yield here / file
    if not found:
        raise InvalidRequest(f"{folder}: there is no file in it")


def _is_table(folder: Location) -> InvalidRequest:
    return InvalidRequest(
        f"{folder}: it is a Delta table, whose folder has files of older versions, too: read it "
        "with scan() or sql() and give what comes"
    )


def _raise(error: OSError) -> None:
    raise error


def _source_file(path: Location) -> SourceFile:
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    kind = BY_SUFFIX.get(name.suffix.lower())
    if kind is None or (kind is Format.PARQUET and name != path):
        raise InvalidRequest(
            f"{path}: its ending tells no format: Parquet is .parquet, CSV .csv, JSON lines .jsonl "
            f"or .ndjson, of which the text may be compressed ({', '.join(COMPRESSED)})"
        )
    return SourceFile(
        path=path, format=kind, size_bytes=path.stat().st_size, values=folder_values(path)
    )


def folder_values(path: Location) -> dict[str, str | None]:
    """Read the partition columns in the names of the folders right above a file."""
    values: dict[str, str | None] = {}
    for folder in path.parents:
        column, equals, text = folder.name.partition("=")
        if not (column and equals):
            break
        values[unquote(column)] = None if text == NULL_FOLDER else unquote(text)
    return dict(reversed(values.items()))


def _meant(path: Location) -> str:
    """Suggest a neighbour with a similar name."""
    try:
        return did_you_mean(path.name, (other.name for other in path.parent.iterdir()))
    except OSError:
        return ""  # it is said already that there is nothing
