"""What a backfill is to do: the manifest that its client writes and workers go by."""

from __future__ import annotations

from typing import Literal

import msgspec

from deltaq.tasks.request import Column, EngineName, LoadMode

#: Version of the manifest's form. A worker leaves alone what is newer than itself.
MANIFEST_VERSION = 1
#: Bytes of a prepared file, about.
TARGET_FILE_BYTES = 128 << 20
#: Pieces that a part is cut into, at most; each may be cut again.
MOST_PIECES = 16
#: JSON keeps whole numbers up to here in all languages.
_MOST_NUMBERS = 1 << 53

Format = Literal["parquet", "csv", "jsonl"]


class Slice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A source file, or the piece of one, that belongs to a part.

    Of a file of lines it may be any byte range, wherever it is cut: a line belongs to the range
    in which it begins.
    """

    #: Absolute, as workers see it, or relative to the backfill's folder.
    path: str
    #: Bytes of the whole file when it was planned; a worker refuses it with another size.
    file_bytes: int
    #: Of Parquet: first row group, and the one after the last.
    row_groups: tuple[int, int] | None = None
    #: Of CSV and JSON lines that are not compressed: start and stop.
    byte_range: tuple[int, int] | None = None
    #: Columns that the file lacks and its folders name, such as ``symbol=IBM``; None is null.
    values: dict[str, str | None] = {}


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one worker prepares at one go."""

    #: From 0, without gaps, in a manifest; of a piece of a part see :func:`piece_numbers`.
    number: int
    format: Format
    slices: tuple[Slice, ...]
    #: Bytes of source that it covers.
    size_bytes: int


class Csv(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How CSV is written. The first line of each file names its columns."""

    delimiter: str = ","
    #: What stands for null when it is not quoted.
    null_values: tuple[str, ...] = ("",)
    #: Quoted values may go over lines; such files are not cut into byte ranges.
    multiline: bool = False


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a backfill is to do."""

    #: Always written: omit_defaults does not apply to a factory.
    v: int = msgspec.field(default_factory=lambda: MANIFEST_VERSION)
    #: Also the id of the request that adopts the files.
    backfill_id: str
    table: str
    #: Whose channel hears the outcome.
    client_id: str
    submitted_at_ms: int
    submitted_by: str | None = None
    mode: LoadMode = "append"
    #: Used when this creates the table, compared with the table otherwise.
    partition_by: tuple[str, ...] | None = None
    #: Rows are in this order within each file.
    sort_by: tuple[str, ...] = ()
    #: Columns of the rows; sources need not have all of those that may be null.
    columns: tuple[Column, ...]
    #: Add columns that the table lacks, and widen its types where it allows that.
    widen: bool = False
    engine: EngineName | None = None
    target_file_bytes: int = TARGET_FILE_BYTES
    csv: Csv = Csv()
    parts: tuple[Part, ...]
    #: How often it was resumed. In the names of its files, so that a process which was stopped
    #: before, and goes on after, does not replace those that are in the table by now.
    resumed: int = 0


def piece_numbers(number: int, parts: int) -> range:
    """Tell which numbers the pieces of a part have: such as no other part or piece has.

    Args:
        number: That of the part, or of the piece that is to be cut further.
        parts: How many parts the manifest has.

    Returns:
        As many numbers as there may be pieces; none for a piece that was cut too often.
    """
    # A part and its pieces are a tree, whose nodes are counted row by row: 0 is the part.
    node, part = divmod(number, parts)
    first = node * MOST_PIECES + 1
    numbers = range(part + first * parts, part + (first + MOST_PIECES) * parts, parts)
    return numbers if numbers[-1] < _MOST_NUMBERS else range(0)
