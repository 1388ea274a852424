"""Small batches of rows as larger pieces."""

from __future__ import annotations

import pyarrow as pa
import pytest

from deltaq.tasks.batches import gather

ROW_BYTES = 8


@pytest.mark.parametrize(
    ("limits", "pieces"),
    [
        ({"size_bytes": 10**6}, [9]),
        ({"size_bytes": 4 * ROW_BYTES}, [6, 3]),
        ({"size_bytes": 10**6, "most_rows": 6}, [6, 3]),
        ({"size_bytes": 10**6, "most_rows": 5}, [3, 3, 3]),
        ({"size_bytes": 10**6, "most_rows": 1}, [3, 3, 3]),
    ],
)
def test_a_piece_has_the_bytes_asked_for_and_no_more_rows_than_it_may(
    limits: dict[str, int], pieces: list[int]
) -> None:
    batches = [pa.record_batch({"k": range(3 * n, 3 * n + 3)}) for n in range(3)]

    found = list(gather(iter(batches), **limits))

    assert [piece.num_rows for piece in found] == pieces
    assert pa.concat_tables(found)["k"].to_pylist() == list(range(9))
