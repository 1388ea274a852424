"""Which files a backfill reads: of paths, globs and folders."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from deltaq.client.tabular import BY_SUFFIX, COMPRESSED, Format
from deltaq.tasks.errors import InvalidFrame, InvalidRequest, StorageUnavailable
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

    path: Path
    format: Format
    size_bytes: int
    values: dict[str, str | None] = field(default_factory=dict)

    @property
    def compressed(self) -> bool:
        """Whether it can only be read from its beginning."""
        return self.path.suffix.lower() in COMPRESSED


@contextlib.contextmanager
def errors_of(path: Path, kind: str) -> Iterator[None]:
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


def find_files(sources: Iterable[str | os.PathLike[str]]) -> list[SourceFile]:
    """List the files of paths, globs and folders, each once; of a folder all below it, sorted.

    Names that begin with ``_`` or ``.`` are no data, nor are empty text files.

    Raises:
        InvalidRequest: Something is not there or matches nothing, has an ending that tells no
            format, or is a Delta table.
        StorageUnavailable: It cannot be read now.
    """
    found: dict[Path, SourceFile] = {}
    try:
        for source in sources:
            for path in _paths(os.fspath(source)):
                found.setdefault(path, _source_file(path))
    except OSError as exc:
        raise StorageUnavailable(f"{exc.filename}: cannot be read: {exc.strerror}") from exc
    return [f for f in found.values() if f.size_bytes or f.format is Format.PARQUET]


def _paths(source: str) -> Iterator[Path]:
    if "://" in source:
        raise InvalidRequest(f"{source}: sources are files that workers see as local paths")
    path = Path(source).expanduser().absolute()
    if path.is_dir():
        yield from _below(path)
    elif path.exists():
        yield path
    elif glob.has_magic(source):
        yield from _matching(path, source)
    else:
        raise InvalidRequest(f"{source}: there is no such file or folder{_meant(path)}")


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


def _is_table(folder: Path) -> InvalidRequest:
    return InvalidRequest(
        f"{folder}: it is a Delta table, whose folder has files of older versions, too: read it "
        "with scan() or sql() and give what comes"
    )


def _raise(error: OSError) -> None:
    raise error


def _source_file(path: Path) -> SourceFile:
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


def folder_values(path: Path) -> dict[str, str | None]:
    """Read the partition columns in the names of the folders right above a file."""
    values: dict[str, str | None] = {}
    for folder in path.parents:
        column, equals, text = folder.name.partition("=")
        if not (column and equals):
            break
        values[unquote(column)] = None if text == NULL_FOLDER else unquote(text)
    return dict(reversed(values.items()))


def _meant(path: Path) -> str:
    """Suggest a neighbour with a similar name."""
    try:
        return did_you_mean(path.name, (other.name for other in path.parent.iterdir()))
    except OSError:
        return ""  # it is said already that there is nothing
