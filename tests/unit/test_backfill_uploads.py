"""What a backfill's client brings itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deltaq.client import backfill_uploads
from deltaq.client.backfill_sources import find_files
from deltaq.client.backfill_uploads import Uploads
from deltaq.tasks.errors import InvalidFrame, StagingFull
from deltaq.tasks.staging import StagingArea


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    area = StagingArea(tmp_path)
    return Uploads(area, tmp_path / "backfills" / "b" / "uploads" / "try", min_free_bytes=0)


def numbers(*values: int) -> pa.Table:
    return pa.table({"n": pa.array(values, pa.int64())})


def test_frames_with_the_same_columns_share_a_file_in_their_order(uploads: Uploads) -> None:
    names = pa.table({"name": ["x"]})
    frames = [numbers(1), numbers(2, 3), numbers(), names, numbers(4)]

    found = [pq.read_table(file.path).to_pydict() for file in uploads.write(frames)]

    assert found == [{"n": [1, 2, 3]}, {"name": ["x"]}, {"n": [4]}]


def test_no_more_than_a_row_group_is_held(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill_uploads, "_GROUP_BYTES", 64)
    monkeypatch.setattr(backfill_uploads, "_FILE_GROUPS", 3)
    held: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for number in range(20):
            held.append(pa.total_allocated_bytes())
            yield pa.record_batch({"n": [number] * 8})

    frame = pa.RecordBatchReader.from_batches(pa.schema([("n", pa.int64())]), batches())
    files = [pq.ParquetFile(file.path) for file in uploads.write([frame])]

    assert [file.num_row_groups for file in files] == [*(3,) * 6, 2]
    assert sum(file.metadata.num_rows for file in files) == 160
    assert max(held) - held[0] < 1 << 20


def test_files_are_copied_with_what_their_folders_say(uploads: Uploads, tmp_path: Path) -> None:
    source = tmp_path / "day=2024-01-01" / "a.csv"
    source.parent.mkdir()
    source.write_text("n\n1\n")
    (file,) = find_files([source])

    copied = uploads.copy(file)

    assert copied.path.read_text() == "n\n1\n"
    assert copied.path.parent == uploads.folder
    assert copied.values == {"day": "2024-01-01"}


def test_nothing_is_left_behind_when_it_is_removed(uploads: Uploads, tmp_path: Path) -> None:
    assert len(list(uploads.write([numbers(1)]))) == 1
    uploads.remove()
    assert list((tmp_path / "backfills").iterdir()) == []


def test_a_frame_that_no_table_can_hold_leaves_no_file(uploads: Uploads) -> None:
    with pytest.raises(InvalidFrame):
        list(uploads.write([pa.table({"t": pa.array([1], pa.time64("us"))})]))
    assert not uploads.folder.exists()


def test_the_disk_keeps_room(tmp_path: Path) -> None:
    uploads = Uploads(StagingArea(tmp_path), tmp_path / "u", min_free_bytes=1 << 60)
    with pytest.raises(StagingFull):
        list(uploads.write([numbers(1)]))
