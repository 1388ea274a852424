"""Stops a commit that was planned from a ledger which has moved since.

Delta skips a transaction whose version is not above the last one of its appId, and refuses it
when the appId moves after the transaction has begun. What is left is a late committer whose
group ends higher: it planned [5..9], somebody else committed [5..7], and Delta sees 9 > 7.
So each transaction is asked, as it begins, for the ledger in the version that it reads.

Delta calls an observer when a transaction begins, in the thread that began it, and py4j
brings that call to the Python thread which waits for the command.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from deltaq.tasks.errors import CommitConflict
from deltaq.worker.groups import CommitGroup

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class _Guarded(threading.local):
    """What the transactions of this thread must find."""

    group: CommitGroup | None = None
    #: The ledger that one of them found instead.
    moved_to: int | None = None


class Fence:
    """Watches the transactions in the JVM of a session."""

    def __init__(self, session: SparkSession) -> None:
        jvm: Any = session._jvm
        self._observers = jvm.org.apache.spark.sql.delta.TransactionExecutionObserver
        self._guarded = _Guarded()
        # Through a Java list, so that one Java object stands for the observer: py4j would
        # make and keep a new one for each use.
        holder = jvm.java.util.ArrayList()
        holder.add(_Observer(self._begin))
        self._observer = holder.get(0)

    @contextmanager
    def guard(self, group: CommitGroup) -> Iterator[None]:
        """Let transactions of this thread begin only while the ledger is below the group.

        Raises:
            CommitConflict: The ledger has reached the group's first sequence.
        """
        before = self._observers.getObserver()
        self._guarded.group, self._guarded.moved_to = group, None
        self._observers.setObserver(self._observer)
        try:
            yield
        except Exception as exc:
            if self._guarded.moved_to is None:
                raise
            raise CommitConflict(
                f"table {group.table}: sequence {self._guarded.moved_to} was committed by another "
                f"worker while this one was about to commit {group.members[0].sequence} to "
                f"{group.sequence}",
                table=group.table,
            ) from exc
        finally:
            self._guarded.group = None
            self._observers.setObserver(before)

    def _begin(self, transaction: Any) -> None:
        group = self._guarded.group
        if group is None:
            return
        ledger = int(transaction.txnVersion(group.app_id))
        if ledger >= group.members[0].sequence:
            self._guarded.moved_to = ledger
            raise RuntimeError(f"the ledger has moved to {ledger}")


class _Observer:
    """Delta's TransactionExecutionObserver, of which only the first method matters."""

    class Java:
        """Read by py4j."""

        implements = ("org.apache.spark.sql.delta.TransactionExecutionObserver",)

    def __init__(self, begin: Any) -> None:
        self._begin = begin

    def startingTransaction(self, start: Any) -> Any:
        transaction = start.apply()
        self._begin(transaction)
        return transaction

    def preparingCommit(self, prepare: Any) -> Any:
        return prepare.apply()

    def beginDoCommit(self) -> None: ...

    def beginBackfill(self) -> None: ...

    def beginPostCommit(self) -> None: ...

    def transactionCommitted(self) -> None: ...

    def transactionAborted(self) -> None: ...
