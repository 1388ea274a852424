"""Which files of a commit are synced."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from deltaq.tasks.errors import StorageUnavailable
from deltaq.worker.durable import sync_commit


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """The files and folders that were really synced, by the descriptors that fsync got."""
    seen: set[Path] = set()
    fsync = os.fsync

    def recording(descriptor: int) -> None:
        fsync(descriptor)
        seen.add(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr(os, "fsync", recording)
    return seen


def write_commit(table: Path, version: int, *actions: dict[str, Any]) -> Path:
    entry = table / "_delta_log" / f"{version:020d}.json"
    entry.parent.mkdir(parents=True, exist_ok=True)
    entry.write_text("\n".join(json.dumps(action) for action in actions))
    return entry


def write_file(table: Path, name: str) -> Path:
    file = table / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"rows")
    return file


def test_a_commit_is_synced_with_its_files_and_their_folders(
    tmp_path: Path, synced: set[Path]
) -> None:
    table = tmp_path / "lake" / "prices"
    file = write_file(table, "day=1/sym=a b/part.parquet")
    old = write_file(table, "old.parquet")
    entry = write_commit(
        table,
        3,
        {"commitInfo": {}},
        {"add": {"path": "day=1/sym=a%20b/part.parquet"}},
        {"remove": {"path": "old.parquet"}},
    )

    sync_commit(table, 3)

    assert synced == {entry, entry.parent, file, file.parent, table / "day=1", table}
    assert old not in synced


def test_the_many_files_of_a_commit_are_synced_each_with_its_folder(
    tmp_path: Path, synced: set[Path]
) -> None:
    files = [write_file(tmp_path, f"day={n}/part.parquet") for n in range(20)]
    added = ({"add": {"path": str(file.relative_to(tmp_path))}} for file in files)
    entry = write_commit(tmp_path, 3, *added, {"add": {"path": "day=1/gone.parquet"}})

    sync_commit(tmp_path, 3)

    assert synced == {tmp_path, entry, entry.parent, *files, *(file.parent for file in files)}


def test_a_folder_that_cannot_be_synced_is_told_of_many(tmp_path: Path) -> None:
    added = [{"add": {"path": f"day={n}/gone.parquet"}} for n in range(20)]
    write_commit(tmp_path, 3, *added)

    with pytest.raises(StorageUnavailable, match=r"day=\d+: cannot be synced: No such file"):
        sync_commit(tmp_path, 3)


def test_the_first_commit_syncs_the_folders_above_the_table(
    tmp_path: Path, synced: set[Path]
) -> None:
    table = tmp_path / "lake" / "prices"
    write_commit(table, 0, {"commitInfo": {}})

    sync_commit(table, 0)

    assert {table, table.parent, tmp_path} <= synced


def test_a_deletion_vector_is_synced(tmp_path: Path, synced: set[Path]) -> None:
    # The example of Delta's protocol.
    vector = write_file(tmp_path, "ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin")
    write_file(tmp_path, "x.parquet")
    named = {"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^"}
    write_commit(tmp_path, 1, {"add": {"path": "x.parquet", "deletionVector": named}})

    sync_commit(tmp_path, 1)

    assert vector in synced


def test_a_commit_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match=r"0007\.json: cannot be read"):
        sync_commit(tmp_path, 7)
