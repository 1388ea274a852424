"""How a process of deltaq logs: a line for people in a terminal, a line of JSON elsewhere.

Programs that use the client set up their own logging; this is for ``deltaq`` and its verbs.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TextIO
from urllib.parse import unquote, urlsplit

import msgspec

from deltaq.tasks.masking import MASK, secret_values

if TYPE_CHECKING:  # pydantic takes 0.1 s to import: not before there are settings
    from deltaq.tasks.settings import Settings

LogFormat = Literal["auto", "json", "human"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

#: Shorter than this is found in innocent words.
_SHORTEST_SECRET = 4
#: What every record has; the rest are facts that the line brings along.
_PLAIN = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"}
#: Loggers that would tell of each wake-up, or of each call to the JVM.
_CHATTY = ("celery.app.trace", "celery.worker.strategy", "py4j")
#: Loggers that say the same with each try while Redis is away, some of it on two lines.
_NAGGING = ("celery.worker.consumer.consumer", "flower.events", "flower.inspector")
#: Seconds after which the same is said again, and how many things are remembered to be said.
_SAID_FOR, _MOST_SAID = 60.0, 100

_encoder = msgspec.json.Encoder(enc_hook=str)


def set_up_logging(
    level: LogLevel,
    format: LogFormat = "auto",
    *,
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Log what is at least of a level, and nowhere else than here.

    Args:
        level: Of the least important lines.
        format: ``human``, ``json``, or ``auto``: human if the stream is a terminal.
        secrets: Texts that no line may show.
        stream: Where to; standard error by default.
    """
    out = stream or sys.stderr
    handler = logging.StreamHandler(out)
    human = format == "human" or (format == "auto" and out.isatty())
    handler.setFormatter((HumanFormatter if human else JsonFormatter)(secrets))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _NAGGING:
        nagging = logging.getLogger(name)
        nagging.filters = [f for f in nagging.filters if not isinstance(f, _OnceAMinute)]
        nagging.addFilter(_OnceAMinute())


def secrets_of(settings: Settings) -> list[str]:
    """List the passwords and keys in settings."""
    given = (settings.redis_password, settings.signing_key, settings.signing_key_old)
    found = [secret.get_secret_value() for secret in given if secret is not None]
    for url in (settings.redis_url, settings.broker_url):
        password = urlsplit(url.get_secret_value()).password if url else None
        found += [password, unquote(password)] if password else []
    if settings.flower_auth:
        found.append(settings.flower_auth.get_secret_value().partition(":")[2])
    return [*found, *secret_values(settings.spark_conf)]


class _OnceAMinute(logging.Filter):
    """Has the same said once a minute, whatever its details, and on one line."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a record through, unless one like it was lately."""
        what, now = str(record.msg), time.monotonic()
        if now < self._said_at.get(what, float("-inf")) + _SAID_FOR:
            return False
        if len(self._said_at) >= _MOST_SAID:
            self._said_at.clear()
        self._said_at[what] = now
        record.msg, record.args = " ".join(record.getMessage().split()), None
        return True


class _Masking(logging.Formatter):
    """Writes lines without secrets, wherever those come from: an exception of a library, say."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        # The longest first: one may be part of another.
        self._secrets = sorted(
            {s for s in secrets if len(s) >= _SHORTEST_SECRET}, key=len, reverse=True
        )

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text


class HumanFormatter(_Masking):
    """A line for people, and a traceback below it where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        return self._masked(super().format(record))


class JsonFormatter(_Masking):
    """A JSON object on one line: time, level, logger, message, then the facts of the line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._masked(record.getMessage()),
        }
        for name, value in record.__dict__.items():
            if name not in _PLAIN:
                line[name] = self._fact(value)
        if record.exc_info:
            line["exception"] = self._masked(self.formatException(record.exc_info))
        return _encoder.encode(line).decode()

    def _fact(self, value: object) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, list | tuple):
            return [self._fact(item) for item in value]
        return self._masked(str(value))
