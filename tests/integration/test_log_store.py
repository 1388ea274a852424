"""Our log store for Spark on a local disk, and the JAR that it comes in."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from py4j.protocol import Py4JJavaError

from deltaq.worker.jars import LOG_STORE
from deltaq.worker.warm import WarmSpark
from tests.support.pages import ROOT

JAVA = ROOT / "worker" / "java"
NAME = "00000000000000000007.json"

pytestmark = pytest.mark.timeout(240)  # the first one waits for Spark


@pytest.fixture
def store(warm_spark: WarmSpark) -> Any:
    """The log store that Delta uses for the lake."""
    session: Any = warm_spark.session(timeout=240)
    kind = session.conf.get("spark.delta.logStore.file.impl")
    assert kind == "deltaq.LocalLogStore"
    return session._jvm.deltaq.LocalLogStore(session._jsc.hadoopConfiguration())


@pytest.fixture
def put(warm_spark: WarmSpark, store: Any, tmp_path: Path) -> Any:
    """Write an entry of a log with lines, by the store."""
    jvm: Any = warm_spark.session(timeout=240)._jvm

    def put(*lines: str, overwrite: bool = False) -> Path:
        entry = tmp_path / "a table" / NAME
        entry.parent.mkdir(exist_ok=True)
        content = jvm.java.util.ArrayList()
        content.extend(lines)
        path = jvm.org.apache.hadoop.fs.Path(f"file:{entry}")
        store.write(path, content.iterator(), overwrite, store.initHadoopConf())
        return entry

    return put


def test_an_entry_is_put_whole_and_nothing_beside_it(put: Any) -> None:
    entry = put('{"a":"é"}', '{"b":2}')

    assert entry.read_text() == '{"a":"é"}\n{"b":2}\n'
    assert list(entry.parent.iterdir()) == [entry]


def test_an_entry_that_is_there_stays_as_it_is(put: Any) -> None:
    entry = put("first")

    with pytest.raises(Py4JJavaError, match=r"java\.nio\.file\.FileAlreadyExistsException"):
        put("second")

    assert entry.read_text() == "first\n"
    assert list(entry.parent.iterdir()) == [entry]


def test_what_may_be_overwritten_is_replaced_with_the_checksum_beside_it(put: Any) -> None:
    entry = put("first")
    (entry.parent / f".{NAME}.crc").write_bytes(b"of an older file")

    put("second", overwrite=True)

    assert entry.read_text() == "second\n"
    assert list(entry.parent.iterdir()) == [entry]


def test_the_commits_of_spark_leave_no_checksums_of_log_entries(
    warm_spark: WarmSpark, tmp_path: Path
) -> None:
    session = warm_spark.session(timeout=240)

    session.range(3).write.format("delta").save(str(tmp_path / "t"))

    assert list((tmp_path / "t" / "_delta_log").glob(".*.json.crc")) == []


def test_the_jar_is_of_the_sources_that_are_here() -> None:
    told = zipfile.ZipFile(LOG_STORE).read("META-INF/sources.sha256").decode()

    assert dict(line.split("  ")[::-1] for line in told.splitlines()) == {
        str(file.relative_to(JAVA)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in JAVA.rglob("*.java")
    }


def test_the_jar_is_what_a_build_makes_of_the_sources(tmp_path: Path) -> None:
    javac = shutil.which("javac")
    version = javac and subprocess.run([javac, "-version"], capture_output=True, text=True).stdout
    if not version or not version.startswith("javac 17."):
        pytest.skip("no JDK 17 on PATH")

    built = tmp_path / "built.jar"
    subprocess.run([sys.executable, JAVA / "build.py", built], check=True, timeout=60)

    assert built.read_bytes() == LOG_STORE.read_bytes()
