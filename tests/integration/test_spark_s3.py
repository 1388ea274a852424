"""Spark on S3: a warm session writes, merges and reads there, as it does on a disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from deltaq.tasks.s3 import S3Options
from deltaq.tasks.settings import Settings
from deltaq.worker.spark_s3 import s3_conf
from deltaq.worker.warm import WarmSpark
from tests.support.s3 import S3Server
from tests.support.store_jvm import hadoop_conf, store_jvm

pytestmark = pytest.mark.timeout(240)  # the first one waits for Spark


@pytest.fixture
def session(warm_spark: WarmSpark) -> Any:
    return warm_spark.session(timeout=240)


@pytest.mark.parametrize("scheme", ["s3a", "s3"])
def test_both_engines_read_what_the_other_has_written(
    session: Any, s3_server: S3Server, s3_url: str, scheme: str
) -> None:
    path = s3_url.replace("s3://", f"{scheme}://")
    for _ in range(2):
        session.range(3).write.format("delta").mode("append").save(path)
    options = s3_server.storage_options()
    table = DeltaTable(s3_url, storage_options=options)
    assert table.to_pyarrow_table()["id"].to_pylist().count(2) == 2

    write_deltalake(table, pa.table({"id": [7]}), mode="append")

    assert session.read.format("delta").load(path).count() == 7
    table.update_incremental()
    assert table.version() == 2


def test_a_merge_and_an_overwrite_are_commits_like_others(session: Any, s3_url: str) -> None:
    from delta.tables import DeltaTable as Table

    path = s3_url.replace("s3://", "s3a://")
    session.range(5).selectExpr("id", "'old' AS word").write.format("delta").save(path)
    source = session.range(3, 8).selectExpr("id", "'new' AS word").alias("s")

    merge = Table.forPath(session, path).alias("t").merge(source, "t.id = s.id")
    merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()

    words = {
        row.word: row["count"] for row in read(session, path).groupBy("word").count().collect()
    }
    assert words == {"old": 3, "new": 5}
    session.range(1).selectExpr("id", "'only' AS word").write.format("delta").mode(
        "overwrite"
    ).save(path)
    assert read(session, path).count() == 1
    versions = [row.version for row in Table.forPath(session, path).history().collect()]
    assert versions == [2, 1, 0]


def read(session: Any, path: str) -> Any:
    return session.read.format("delta").load(path)


def test_keys_are_in_no_list_of_processes_and_no_file(
    warm_spark: WarmSpark, session: Any, s3_server: S3Server
) -> None:
    conf = session.sparkContext.getConf()
    assert conf.get("spark.hadoop.fs.s3a.secret.key") == s3_server.secret_key
    process = Path(f"/proc/{warm_spark.jvm_pid}")
    seen = [process / "cmdline", process / "environ", *(process / "cwd").glob("*.properties")]

    for file in seen:
        assert s3_server.secret_key.encode() not in file.read_bytes(), file


def test_keys_are_not_shown_in_what_spark_tells_of_its_settings(
    session: Any, s3_server: S3Server
) -> None:
    rows = session.sql("SET").collect()

    assert s3_server.secret_key not in str(rows)


@pytest.mark.parametrize("given", ["environment", "profile"])
def test_an_account_is_found_as_by_the_tools_of_aws(
    spark_settings: Settings,
    s3_server: S3Server,
    s3_url: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    given: str,
) -> None:
    account = s3_server.environment()
    keys = {name: account[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    if given == "profile":
        lines = [f"{name.lower()} = {key}" for name, key in keys.items()]
        (tmp_path / "credentials").write_text("\n".join(["[lake]", *lines, ""]))
        keys = {"AWS_PROFILE": "lake", "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    conf = hadoop_conf(s3_conf(S3Options(endpoint=s3_server.endpoint)))

    with store_jvm(spark_settings, "deltaq.S3LogStore", conf) as jvm:
        assert jvm.put(s3_url.replace("s3://", "s3a://") + "/_delta_log/0.json", "{}")
