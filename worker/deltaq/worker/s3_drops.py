"""Drops tables in S3, where no folder can be renamed.

The grave has first the list of all files of the table, and in the end a word that it is gone. In
between the entries of the log are removed, the oldest first: whoever reads meanwhile finds the
table as it was, or none, and never an older one. Only what is in the list is removed, of the log
only what is unchanged since: a late worker does nothing to the next table of that name.
"""

from __future__ import annotations

import msgspec

from deltaq.tasks.s3_path import S3Path

_LIST, _WORD = "files", "dropped"
_LOG = "_delta_log/"


def is_dropped(grave: S3Path) -> bool:
    """Tell whether a table is gone to its grave."""
    return (grave / _WORD).is_file()


def take_away(table: S3Path, grave: S3Path) -> None:
    """Remove the log of a table, going on where another worker died.

    Raises:
        OSError: The storage refused; doing it again is safe.
    """
    files = {str(f.relative_to(table)): f.stat().etag or "" for f in table.walk_files()}
    try:
        with (grave / _LIST).create() as written:
            written.write(msgspec.json.encode(files))
    except FileExistsError:
        files = _listed(grave)
    entries = [name for name in files if name.startswith(_LOG)]
    # What names the newest checkpoint goes before the checkpoint.
    for name in sorted(entries, key=lambda n: (not n.endswith("_last_checkpoint"), n)):
        (table / name).remove_unchanged(files[name])
    (grave / _WORD).touch()


def remove_files(grave: S3Path) -> None:
    """Remove the files of a dropped table, if that was not done before.

    Raises:
        OSError: The storage refused; doing it again is safe.
    """
    if not (grave / _LIST).is_file():
        return
    files = _listed(grave)
    if not files:
        return
    table = grave.parents[2] / grave.parent.name
    table.remove_below(name for name in files if not name.startswith(_LOG))
    # Not removed: a late worker would make another list, of the next table of that name.
    (grave / _LIST).write_bytes(msgspec.json.encode({}))


def _listed(grave: S3Path) -> dict[str, str]:
    listed: dict[str, str] = msgspec.json.decode((grave / _LIST).read_bytes(), type=dict[str, str])
    return listed
