"""Guesses at the types of CSV and JSON lines, from samples.

Read are the header of each CSV file, and rows of at most :data:`SAMPLED_FILES` files, spread over
all of them: the first :data:`SAMPLE_BYTES` of each and, of a larger one without quotes, as many
from its middle and its end. Nobody has looked at the rest: a value there that does not fit fails
its part, with the file named, and ``schema=`` says what is meant.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import csv

from deltaq.client.backfill_sources import SourceFile, errors_of
from deltaq.client.backfill_types import text_type
from deltaq.client.frames import check_names
from deltaq.client.tabular import Format, read_json_lines
from deltaq.tasks.location import Location, text_stream
from deltaq.tasks.manifest import Csv

SAMPLED_FILES = 64
SAMPLE_BYTES = 1 << 20
#: A line that is longer is none.
_LONGEST_LINE = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the beginning of a text file, or more of it, tells.

    Attributes:
        schema: Its columns; those of a file whose rows were not read have no type.
        multiline: Values between quotes go over lines.
    """

    schema: pa.Schema
    multiline: bool


def read_samples(files: Sequence[SourceFile], how: Csv) -> dict[Location, Sample]:
    """Look into text files.

    Raises:
        InvalidFrame: One cannot be read as what it is; it is named.
        StorageUnavailable: One cannot be read now.
    """
    step = -(-len(files) // SAMPLED_FILES)
    sampled = {*range(0, len(files), step), len(files) - 1}
    found: dict[Location, Sample] = {}
    for place, file in enumerate(files):
        with errors_of(file.path, file.format), _opened(file) as opened:
            header, columns = None, pa.schema([])
            if file.format is Format.CSV:
                header = _header(opened)
                columns = _read(file, header, how)
                check_names(columns.names)
            if place in sampled:
                found[file.path] = _look(file, header, _blocks(file, opened), how)
            else:  # what a line of JSON leaves out is null, so it need not be looked at
                found[file.path] = Sample(schema=columns, multiline=False)
    return found


def _look(file: SourceFile, header: bytes | None, blocks: Iterator[bytes], how: Csv) -> Sample:
    kinds: dict[str, pa.DataType] = {}
    multiline = False
    for block in blocks:
        for field in _read(file, block if header is None else header + block, how):
            kind = text_type(kinds.get(field.name, pa.null()), field.type)
            # Delta has none for a time of day, and text loses nothing.
            kinds[field.name] = pa.string() if pa.types.is_time(kind) else kind
        multiline = multiline or (header is not None and _breaks_between_quotes(block))
    return Sample(schema=pa.schema(list(kinds.items())), multiline=multiline)


def _read(file: SourceFile, text: bytes, how: Csv) -> pa.Schema:
    source = pa.BufferReader(text)
    if file.format is Format.JSONL:
        return read_json_lines(source).schema
    parse = csv.ParseOptions(delimiter=how.delimiter, newlines_in_values=True)
    convert = csv.ConvertOptions(
        null_values=list(how.null_values),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    return csv.read_csv(source, parse_options=parse, convert_options=convert).schema


def _breaks_between_quotes(text: bytes) -> bool:
    # Every second piece is between quotes; a doubled quote makes an empty one more.
    return any(b"\n" in piece for piece in text.split(b'"')[1::2])


def _header(file: io.BufferedReader) -> bytes:
    """Read the first line, which may have line breaks between quotes."""
    header = file.readline(_LONGEST_LINE)
    while header.count(b'"') % 2 and (line := file.readline(_LONGEST_LINE)):
        header += line
    return header if header.endswith(b"\n") else header + b"\n"


def _blocks(file: SourceFile, opened: io.BufferedReader) -> Iterator[bytes]:
    """Read whole lines from the beginning, and if need be from the middle and the end."""
    head = opened.read(SAMPLE_BYTES)
    lines = whole_lines(head) if len(head) == SAMPLE_BYTES else head
    if not lines and head:
        lines = head + opened.readline(_LONGEST_LINE)
    if lines.strip() or file.format is Format.CSV:
        yield lines
    if file.compressed or file.size_bytes < 3 * SAMPLE_BYTES:
        return
    for place in (file.size_bytes // 2, file.size_bytes - SAMPLE_BYTES):
        opened.seek(place)
        opened.readline(_LONGEST_LINE)
        block = whole_lines(opened.read(SAMPLE_BYTES))
        # From the middle nobody can tell what is between quotes.
        if block.strip() and (file.format is Format.JSONL or b'"' not in block):
            yield block


def whole_lines(text: bytes) -> bytes:
    """Cut text at its last line break that is not between quotes."""
    end = len(text)
    while (end := text.rfind(b"\n", 0, end)) >= 0:
        if text.count(b'"', 0, end) % 2 == 0:
            return text[: end + 1]
    return b""


@contextlib.contextmanager
def _opened(file: SourceFile) -> Iterator[io.BufferedReader]:
    with text_stream(file.path) as stream, io.BufferedReader(stream) as opened:
        yield opened
