"""What a client does about requests that are on their way, its own and others'."""

from __future__ import annotations

from typing import Any

from deltaq.client.core import Core
from deltaq.client.drafts import table_name
from deltaq.client.future import BaseFuture, Future
from deltaq.tasks.errors import InvalidRequest
from deltaq.tasks.names import check_request_id
from deltaq.tasks.outcome import Outcome


class Tracking:
    """Methods that ask for a request, or take it back."""

    _core: Core

    def outcome(self, table: str, request_id: str) -> Outcome | None:
        """Look up what came of a request, of any client, without waiting.

        Args:
            table: Name under the lake's root.
            request_id: Id of the request on that table.

        Returns:
            Its outcome, with state QUEUED if it has not been committed yet; None if the queue
            does not know it: never submitted, or settled longer than ``outcome_ttl`` ago.

        Raises:
            QueueUnavailable: Redis did not answer.

        Examples:
            >>> future = client.append("prices", frame, request_id="order-18")
            >>> outcome = future.result(timeout=30)
            >>> client.outcome("prices", "order-18") == outcome
            True
        """
        return self._core.outcome(table_name(table), check_request_id(request_id))

    def cancel(self, request: Future[Any] | str, *, request_id: str | None = None) -> bool:
        """Cancel a request if no worker has begun with it.

        What a worker has begun with cannot be stopped: it goes on, and its outcome says what
        became of it.

        Args:
            request: The future of the request; or the table of a request of any client, with
                ``request_id``.
            request_id: Id of the request on that table.

        Returns:
            True if it is certain that the request is not and will not be applied; its future,
            whoever holds it, raises ``RequestCancelled``. False if a worker has begun with it,
            it is settled otherwise, or the queue does not know it.

        Raises:
            QueueUnavailable: Redis did not answer; the request goes on.

        Examples:
            >>> future = client.append("prices", frame, request_id="order-17")
            >>> outcome = future.result(timeout=30)
            >>> client.cancel("prices", request_id="order-17")  # too late
            False
        """
        if isinstance(request, BaseFuture):
            if request_id is not None:
                raise InvalidRequest("a future knows its request: leave out request_id")
            return request.cancel()
        if request_id is None:
            raise InvalidRequest("give a future, or a table and request_id")
        return self._core.cancel(table_name(request), check_request_id(request_id))
