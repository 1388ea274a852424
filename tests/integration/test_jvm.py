"""What others on a machine see of the JVM."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from deltaq.worker.java import find_java
from deltaq.worker.jvm import launch
from tests.support.waiting import wait_until

SECRET = "not-for-the-list-of-processes"


def test_no_secret_is_in_the_list_of_processes_or_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELTAQ_REDIS_PASSWORD", SECRET)
    conf = {
        "spark.master": "local[1]",
        "spark.ui.enabled": "false",
        "spark.hadoop.fs.s3a.secret.key": SECRET,
    }
    jvm, answer = launch(find_java(), conf, tmp_path)
    seen: set[str] = set()

    def look() -> bool:
        root = psutil.Process(jvm.pid)
        for process in (root, *root.children(recursive=True)):
            try:
                seen.add(" ".join([*process.cmdline(), *process.environ().values()]))
            except psutil.NoSuchProcess:
                continue  # one of those that only build the command line
        return answer.exists()

    try:
        wait_until(look, within=50, saying=jvm.obituary)
    finally:
        jvm.stop()
    assert any("SparkSubmit" in text for text in seen)
    assert SECRET not in "".join(seen)
    assert SECRET in (tmp_path / "spark.properties").read_text()
    assert (tmp_path / "spark.properties").stat().st_mode & 0o077 == 0
