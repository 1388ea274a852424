from __future__ import annotations

import pyarrow as pa

from deltaq.worker.maintenance.analysis import analyse

MiB = 1 << 20


def files(*each: tuple[str, int]) -> pa.Table:
    return pa.table(
        {
            "size_bytes": pa.array([size for _, size in each], pa.int64()),
            "rows": pa.array([1] * len(each), pa.int64()),
            "day": pa.array([day for day, _ in each], pa.string()),
        }
    )


def test_a_table_without_files_has_nothing_to_mend() -> None:
    told = analyse(files(), ["day"])
    assert (told["files"], told["rows"], told["partitions"], told["skew"]) == (0, 0, 0, None)
    assert (told["file_sizes"], told["suggestions"]) == ([], [])


def test_each_file_is_in_one_bar_of_the_histogram() -> None:
    sizes = [0, 1, 4095, 4096, MiB, 2**40]
    told = analyse(files(*[("a", size) for size in sizes]), ["day"])
    bars = [(bar["below_bytes"], bar["files"]) for bar in told["file_sizes"]]
    assert bars == [(4096, 3), (16384, 1), (4 * MiB, 1), (None, 1)]


def test_too_many_partitions_and_one_that_is_too_large_are_told() -> None:
    many = analyse(files(*[(f"d{n}", 1000) for n in range(40)]), ["day"])
    assert "40 partitions of 1000 bytes on average" in many["suggestions"][0]
    skewed = analyse(files(("a", 300 * MiB), ("b", MiB), ("c", MiB)), ["day"])
    assert skewed["skew"] == 300
    assert skewed["suggestions"] == [
        "the largest partition is 300 times the one in the middle: what reads or rewrites it "
        "waits for it alone"
    ]


def test_rows_that_no_log_tells_are_unknown() -> None:
    unknown = files(("a", 1)).set_column(1, "rows", pa.nulls(1, pa.int64()))
    assert analyse(unknown, ["day"])["rows"] is None
