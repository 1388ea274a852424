"""What S3 refuses Spark is tried again, and is said in its words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from py4j.protocol import Py4JJavaError

from deltaq.tasks.errors import StorageUnavailable
from deltaq.tasks.settings import Settings
from deltaq.worker.engines.spark_errors import translate
from deltaq.worker.spark_s3 import s3_conf
from tests.support.s3 import S3Server
from tests.support.s3_faults import REFUSALS, Cut, Refusal
from tests.support.s3_proxy import S3Proxy
from tests.support.store_jvm import StoreJvm, hadoop_conf, store_jvm

#: So that it gives up at once what else it would try for a minute.
IMPATIENT = {
    "fs.s3a.attempts.maximum": "1",
    "fs.s3a.retry.limit": "0",
    "fs.s3a.retry.throttle.limit": "0",
}


@pytest.fixture(scope="module")
def proxy(s3_server: S3Server) -> Iterator[S3Proxy]:
    with S3Proxy(s3_server) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def jvm(spark_settings: Settings, s3_server: S3Server, proxy: S3Proxy) -> Iterator[StoreJvm]:
    conf = hadoop_conf(s3_conf(s3_server.options(proxy.endpoint)))
    with store_jvm(spark_settings, "deltaq.S3LogStore", {**conf, **IMPATIENT}) as jvm:
        yield jvm


@pytest.mark.parametrize(
    "deed", [*REFUSALS, Cut.BEFORE], ids=lambda d: d.code if isinstance(d, Refusal) else "cut"
)
def test_what_the_server_refuses_may_be_tried_again(
    jvm: StoreJvm, proxy: S3Proxy, s3_url: str, deed: Refusal | Cut
) -> None:
    proxy.inflict(deed)
    try:
        with pytest.raises(Py4JJavaError) as caught:
            jvm.put(s3_url.replace("s3://", "s3a://") + "/_delta_log/0.json", "{}")
    finally:
        proxy.heal()

    error = translate(caught.value, "prices")

    assert type(error) is StorageUnavailable
    assert error.retryable
    if isinstance(deed, Refusal):
        assert deed.code in error.message
