"""The methods of a client for whoever runs the system. No worker needs to run for them."""

from __future__ import annotations

from collections.abc import Iterable

from deltaq.client.core import Core
from deltaq.client.dead_letters import DeadLetter
from deltaq.client.drafts import table_name
from deltaq.client.future import Future
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.status import TableStatus


class Operations:
    """What waits, what was given up, and its way back."""

    _core: Core

    def status(self) -> list[TableStatus]:
        """List the tables for which requests wait: how many, how long, who is at them.

        Returns:
            A :class:`TableStatus` for each such table, with sizes in bytes and times in seconds.

        Raises:
            QueueUnavailable: Redis did not answer.

        Examples:
            >>> client.status()  # nothing waits
            []
        """
        return self._core.status()

    def dead_letters(self, table: str | None = None) -> list[DeadLetter]:
        """List the requests that were given up, of a table or of all, oldest first.

        They are read from the staging area; Redis need not run either.

        Args:
            table: Only those of this table.

        Examples:
            >>> letters = client.dead_letters("orders")
            >>> [(letter.request_id, letter.error.code) for letter in letters]
            [('order-9', 'schema_mismatch')]
        """
        return self._core.dead_letters(None if table is None else table_name(table))

    def redrive(self, letters: Iterable[DeadLetter | str]) -> list[Future[Outcome]]:
        """Submit dead letters anew, each under its own id, and forget that they failed.

        They go to the end of their lanes, in the order given. The future of one that could not
        be submitted has the error.

        Args:
            letters: From :meth:`dead_letters`, or ids of requests.

        Raises:
            InvalidRequest: There is no dead letter of that id, or several tables have one;
                nothing was submitted.

        Examples:
            >>> futures = client.redrive(["order-9"])
            >>> futures[0].operation, futures[0].table
            ('append', 'orders')
        """
        return self._core.redrive(letters)
