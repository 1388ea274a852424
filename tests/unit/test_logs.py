"""How log lines are written, for people and as JSON."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from deltaq.tasks.logs import LogFormat, secrets_of, set_up_logging
from deltaq.tasks.settings import load_settings

logger = logging.getLogger("deltaq.test")
SECRET = "never-shown/%"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    kept, level = list(root.handlers), root.level
    root.handlers.clear()
    yield
    root.handlers[:], root.level = kept, level


def written(format: LogFormat, *, secrets: tuple[str, ...] = (), terminal: bool = False) -> str:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    stream = Stream()
    set_up_logging("INFO", format, secrets=secrets, stream=stream)
    logger.debug("too little to tell")
    facts = {"request_id": "r1", "rows": 3, "inserted": None, "ids": ["a", SECRET], "lane": "live"}
    logger.info("table %s: %s", "prices", SECRET, extra=facts)
    try:
        raise OSError(f"redis://:{SECRET}@host")
    except OSError:
        logger.exception("unforeseen")
    return stream.getvalue()


def test_what_a_library_says_with_each_try_is_a_line_a_minute() -> None:
    stream = io.StringIO()
    set_up_logging("INFO", "human", stream=stream)
    celery = logging.getLogger("celery.worker.consumer.consumer")
    for seconds in (2, 4, 6):
        celery.error("consumer: Cannot connect to %s: %s.\n%s\n", "redis", "away", f"in {seconds}")
    celery.warning("Connection to broker lost: %r", "away")
    for _ in range(2):
        logger.error("of ours: again and again")

    lines = [line.partition(": ")[2] for line in stream.getvalue().splitlines()]
    assert lines == [
        "consumer: Cannot connect to redis: away. in 2",
        "Connection to broker lost: 'away'",
        *["of ours: again and again"] * 2,
    ]


def test_a_line_of_json_has_the_facts_of_the_line() -> None:
    first, second = map(json.loads, written("json").splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "info",
        "logger": "deltaq.test",
        "message": f"table prices: {SECRET}",
        "request_id": "r1",
        "rows": 3,
        "inserted": None,
        "ids": ["a", SECRET],
        "lane": "live",
    }
    assert second["level"] == "error"
    assert second["exception"].startswith("Traceback")


def test_a_line_for_people_has_time_level_and_message() -> None:
    lines = written("human").splitlines()
    assert lines[0].endswith(f" INFO    deltaq.test: table prices: {SECRET}")
    assert lines[-1] == f"OSError: redis://:{SECRET}@host"


def test_the_stream_decides_unless_somebody_says() -> None:
    assert written("auto").startswith("{")
    assert not written("auto", terminal=True).startswith("{")
    assert written("json", terminal=True).startswith("{")


@pytest.mark.parametrize("format", ["json", "human"])
def test_no_line_shows_a_secret(format: LogFormat) -> None:
    text = written(format, secrets=(SECRET, "ab"))
    assert "never-shown" not in text
    assert "***" in text
    assert "table prices" in text  # "ab" is in it, and too short to be a secret


def test_secrets_are_found_wherever_they_are_set() -> None:
    settings = load_settings(
        lake="/lake",
        redis_url="redis://user:one%2F1@host",
        broker_url="redis://:two@host",
        redis_password="three",
        signing_key="f" * 32,
        signing_key_old="g" * 32,
        flower_auth="ops:six",
        spark_conf={"spark.hadoop.fs.s3a.secret.key": "four", "spark.app.name": "five"},
    )
    found = set(secrets_of(settings))
    assert found == {"one%2F1", "one/1", "two", "three", "f" * 32, "g" * 32, "four", "six"}
