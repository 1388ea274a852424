"""The client for programs with threads, or with none."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from deltaq.client.alterations import Alterations
from deltaq.client.backfill import Backfills
from deltaq.client.catalog import Catalog
from deltaq.client.core import Core
from deltaq.client.future import Future
from deltaq.client.operations import Operations
from deltaq.client.queries import Queries
from deltaq.client.table_verbs import TableVerbs
from deltaq.client.tracking import Tracking
from deltaq.client.upkeep import Upkeep
from deltaq.client.writes import Writes
from deltaq.tasks.outcome import Outcome

if TYPE_CHECKING:  # pydantic takes 0.1 s to import: not before there are settings
    from deltaq.client.progress import Progress
    from deltaq.tasks.settings import Settings


class Client(
    Writes, Backfills, Tracking, Queries, Catalog, TableVerbs, Alterations, Upkeep, Operations
):
    """Hands requests to deltaq's workers. Threads may share one; close it when done.

    The writing methods return at once: then the rows are staged and the request is queued,
    both durable, and the table has not changed yet. The future's result is the
    :class:`Outcome`, its exception the typed error. All of them take:

    - ``request_id``: identity of the request, made here unless given. The same id again, with
      the same operation, options and rows, gives what came of the first; it is never applied
      twice.
    - ``lane``: ``live``, ``bulk`` or ``maintenance``; order holds within a lane of a table.
    - ``engine``: ``native`` or ``spark``, to insist on one; by default the worker chooses.
    - ``expires``: seconds from the call, or a datetime (UTC without a zone). A request that no
      worker has begun with by then is dropped: its future raises ``RequestExpired``.
    - ``block``: wait for room instead of raising ``QueueFull`` or ``StagingFull``; ``timeout``
      is the most seconds to wait, and then they are raised after all. The outcome is not waited
      for: that is for the future.

    and raise, besides what they name:

    - ``InvalidTableName``, ``InvalidRequest``, ``InvalidExpression``: an argument is wrong;
    - ``InvalidFrame``: columns or values that no Delta table can hold;
    - ``RequestIdConflict``: the id was used with other content;
    - ``QueueFull``: the lane, or Redis, takes no more now; nothing is left behind;
    - ``StagingFull``: the disk of the staging area has less than
      ``Settings.staging_min_free_bytes``; nothing is left behind;
    - ``QueueUnavailable``: Redis did not answer within ``Settings.redis_timeout`` seconds;
      the staged file is kept and named in the error. With ``spool=True`` the future is
      returned all the same, and the request goes in, in order, when Redis is back;
    - ``StorageUnavailable``: the staging area cannot be written.

    A forked process may go on using a client: it connects anew. Futures stay with the process
    that made them.

    Args:
        settings: The settings; by default read from deltaq.toml and the environment.
        arguments: Single settings that go before all others, such as ``lake="./lake"``.

    Raises:
        ConfigurationError: A setting is missing, unknown or impossible.

    Examples:
        In those of the methods ``client`` is such a client, and table ``prices`` has the rows of
        ``frame``.

        >>> frame = pd.DataFrame({"symbol": ["IBM", "MSFT"], "price": [101.5, 39.5]})
        >>> with Client(lake="./lake") as client:
        ...     future = client.append("prices", frame)
        ...     print(future.result(timeout=30).state)
        committed
    """

    def __init__(self, settings: Settings | None = None, **arguments: Any) -> None:
        self._core = Core(settings_of(settings, arguments))

    @property
    def settings(self) -> Settings:
        """The settings in effect."""
        return self._core.settings

    def progress(
        self, futures: Iterable[Future[Outcome]], *, file: TextIO | None = None
    ) -> Progress:
        """Follow requests, of any client, and show how far they are.

        The result is iterated for each future as it is done, or asked to ``wait()`` for all.
        Meanwhile a bar tells how many are queued, committing, committed and failed, rows per
        second and the time left: in a terminal, or in a notebook. Elsewhere the same is told by
        a line of text every ten seconds.

        Args:
            futures: Of requests; each is followed once.
            file: Where to write; standard error by default.

        Examples:
            >>> futures = [client.append("prices", frame) for _ in range(3)]
            >>> for future in client.progress(futures):
            ...     print(future.result().inserted)
            2
            2
            2
        """
        # Rich takes 0.1 s to import.
        from deltaq.client.display import make_display
        from deltaq.client.progress import Progress

        return Progress(self._core.shared.follow(futures, make_display(file)))

    def close(self) -> None:
        """End the client's threads and connections. Requests go on without it.

        Futures that still wait fail with ``ResultTimeout``. What a spool holds is tried once
        more, for ``redis_timeout`` seconds; then its futures fail with ``QueueUnavailable``,
        and its staged files are kept for ``deltaq recover``. A second call does nothing.

        Examples:
            >>> client = Client(lake="./lake")
            >>> client.close()
        """
        self._core.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def settings_of(settings: Settings | None, arguments: dict[str, Any]) -> Settings:
    """Put single settings before those of an object, or before all that is configured."""
    if settings is not None and not arguments:
        return settings
    from deltaq.tasks.settings import load_settings

    given = settings.model_dump(exclude_unset=True) if settings else {}
    return load_settings(**{**given, **arguments})
