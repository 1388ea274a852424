"""``python -m benchmarks.backfill_bare FORMAT FOLDER TABLE``: the load without deltaq.

One process, which streams what pyarrow reads into ``write_deltalake``. It prints the seconds that
this took, and the most memory it had.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import pyarrow.dataset as ds
from deltalake import write_deltalake

from benchmarks.backfill_data import PARTITION_BY


def main(kind: str, folder: str, table: str) -> None:
    """Load a folder."""
    began = time.perf_counter()
    files = ds.dataset(folder, format=kind, partitioning="hive")
    write_deltalake(table, files.scanner().to_reader(), partition_by=PARTITION_BY)
    seconds = time.perf_counter() - began
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "bytes": most}))


if __name__ == "__main__":
    main(*sys.argv[1:])
