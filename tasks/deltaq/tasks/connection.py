"""The connection to the queue's Redis, its scripts, and its errors in our terms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from deltaq.tasks.errors import ConfigurationError, QueueFull, QueueUnavailable

if TYPE_CHECKING:  # pydantic takes 0.1 s to import: not before there are settings
    from deltaq.tasks.settings import Settings

#: Retries of one command, 0.05 to 0.4 s apart. Every script may run twice without harm.
_RETRIES = 3
#: Connections of one process; a thread that finds none free waits for one.
_MAX_CONNECTIONS = 64
#: How Redis words what an account may not do when a script does it.
_BY_SCRIPT = "user executing the script can't"


def connect(settings: Settings, *, retries: int = _RETRIES) -> redis.Redis:
    """Make a client of the queue's Redis; nothing is sent yet.

    Each of the ``retries`` of a command may take ``Settings.redis_timeout`` again.
    """
    pool = redis.BlockingConnectionPool.from_url(
        settings.queue_url,
        max_connections=_MAX_CONNECTIONS,
        retry=Retry(ExponentialBackoff(cap=0.4, base=0.05), retries),
        **connection_options(settings),
    )
    return redis.Redis(connection_pool=pool)


def connection_options(settings: Settings) -> dict[str, Any]:
    """Name the options of every pool of connections to the queue's Redis."""
    options: dict[str, Any] = {
        "decode_responses": True,
        # What is no UTF-8 is no request, and must not keep those behind it from being read.
        "encoding_errors": "replace",
        "timeout": settings.redis_timeout,
        "socket_timeout": settings.redis_timeout,
        "socket_connect_timeout": settings.redis_timeout,
        "health_check_interval": 30,
    }
    # Connections by Unix socket refuse the option.
    if not settings.redis_url.get_secret_value().startswith("unix:"):
        options["socket_keepalive"] = True
    return options


@contextmanager
def queue_errors() -> Iterator[None]:
    """Translate errors of Redis.

    Raises:
        QueueUnavailable: It cannot be reached, does not answer or cannot write.
        QueueFull: It is at its memory limit.
        ConfigurationError: The account may not do this.
    """
    try:
        yield
    except redis.exceptions.OutOfMemoryError as exc:
        raise QueueFull(
            f"Redis is at its memory limit and took nothing: {exc}; wait until the workers "
            "have caught up, or raise maxmemory"
        ) from exc
    except redis.exceptions.ResponseError as exc:
        if isinstance(exc, redis.exceptions.NoPermissionError) or _BY_SCRIPT in str(exc):
            raise ConfigurationError(
                f"the account of redis_url may not do this: {exc}; deploy/redis/users.acl says "
                "what clients and workers need"
            ) from exc
        if not str(exc).startswith(("LOADING", "MISCONF", "READONLY", "MASTERDOWN", "BUSY")):
            raise
        raise QueueUnavailable(f"Redis does not take writes now: {exc}") from exc
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as exc:
        raise QueueUnavailable(
            f"Redis cannot be reached: {exc}; check that it runs and that redis_url is right"
        ) from exc


class Scripts:
    """The Lua scripts, run by digest and loaded when the server does not know them."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._flags: bool | None = None
        self._registered: dict[str, Any] = {}

    def run(self, name: str, keys: list[str], args: list[Any]) -> Any:
        """Run ``lua/<name>.lua`` and return its reply.

        Raises:
            QueueUnavailable, QueueFull: As :func:`queue_errors` says.
        """
        with queue_errors():
            script = self._registered.get(name)
            if script is None:
                script = self._client.register_script(self._text(name))
                self._registered[name] = script
            return script(keys=keys, args=args)

    def _text(self, name: str) -> str:
        if self._flags is None:
            version = self._client.info("server")["redis_version"]
            self._flags = takes_flags(str(version))
        return script_text(name, flags=self._flags)


def takes_flags(version: str) -> bool:
    """Tell whether a Redis knows flags; before version 7 a script with them does not compile."""
    return int(version.split(".")[0]) >= 7


@cache
def script_text(name: str, *, flags: bool) -> str:
    """Read ``lua/<name>.lua``, with its first line of flags or without."""
    text = (resources.files("deltaq.tasks") / "lua" / f"{name}.lua").read_text()
    return text if flags else text.partition("\n")[2]
