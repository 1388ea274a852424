"""``python -m tests.fault.soak --minutes 30 --report soak.json``: the long proof."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fault.soak.run import soak


def main() -> int:
    """Run a soak, print its report and return 1 if anything is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.soak", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--report", type=Path, required=True, help="JSON; text goes beside it")
    parser.add_argument("--spark", action="store_true", help="let Spark take part, and its JVM die")
    parser.add_argument("--seed", type=int, default=1, help="of the faults")
    parser.add_argument("--keep", type=Path, help="empty folder for lake and logs; default: none")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deltaq-soak-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report = soak(folder, seconds=60 * options.minutes, spark=options.spark, seed=options.seed)
    report.write(options.report)
    print(report.text())
    return 1 if report.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
