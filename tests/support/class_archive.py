"""An archive of the classes that Spark loads, with which a JVM is warm for a third less work.

``python -m tests.support.class_archive`` makes it, in a minute; runs of tests use it if it is there.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from deltaq.tasks.settings import load_settings
from deltaq.worker import jvm
from deltaq.worker.warm import WarmSpark

#: Beside the packages that it belongs to; Java leaves it alone when they have changed.
ARCHIVE = Path(sys.prefix) / ".spark-classes.jsa"
# Without the second compiler, whose code pays later, a Spark is warm for 17 s of processor time
# instead of 33 s, and twenty appends and ten merges after that take 19 s instead of 50 s. What is
# said of archives goes to standard output, where programs look for other things.
_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xlog:cds*=off"
#: Seconds that a start of Spark, or its end, may take.
_PATIENCE = 240.0


def java_options() -> str:
    """Write the options of the JVMs of tests, some forty in a run, which live for a minute."""
    return f"{_OPTIONS} -XX:SharedArchiveFile={ARCHIVE}" if ARCHIVE.exists() else _OPTIONS


def main() -> None:
    """Start Spark, warm it, and have its JVM write its classes down as it ends."""
    new = ARCHIVE.with_suffix(".new")
    os.environ["JAVA_TOOL_OPTIONS"] = f"{_OPTIONS} -XX:ArchiveClassesAtExit={new}"
    jvm._STOP_WITHIN = _PATIENCE  # a JVM that writes is killed too soon by default
    with tempfile.TemporaryDirectory(prefix="deltaq-classes-") as folder:
        warm = WarmSpark(load_settings(lake=folder, spark_master="local[2]"))
        warm.start()
        try:
            warm.session(_PATIENCE)
        finally:
            warm.stop()
    new.replace(ARCHIVE)


if __name__ == "__main__":
    main()
