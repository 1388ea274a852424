"""Delta's transactions, watched as they begin and joined by our ledger as they commit.

Why not Delta's own ``txnAppId`` and ``txnVersion``? They compare the version with the last
one of the appId, so they miss the late committer whose group ends higher: it planned [5..9],
somebody else committed [5..7], and 9 > 7. And to find that last one, Delta rebuilds the state
of the table with a Spark job for every commit, 250 ms at best and more with every file.

Delta calls an observer when a transaction begins and when it prepares its commit, in the
thread that began it, and py4j brings that call to the Python thread which waits for the
command. There we check the ledger in the very version that the transaction reads, and add the
ledger's action. Delta itself refuses the commit if the ledger moves in between.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deltaq.worker import ledger
from deltaq.worker.groups import CommitGroup

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: What Delta hands over to be added to where nothing may be: the commit of a conversion.
_NOTHING = "scala.runtime.BoxedUnit"
#: Reads the ledger in a version of the group's table.
LedgerAt = Callable[[int], int]


@dataclass
class _Guarded:
    """The group whose commit a thread makes."""

    group: CommitGroup
    ledger_at: LedgerAt
    #: Where a transaction found the ledger that somebody else had moved.
    moved_to: int | None = None
    #: What was raised while Delta called us: it passes on the text alone.
    raised: Exception | None = None
    #: Its commit was prepared; what follows in the thread, as auto-compaction, is Delta's own.
    done: bool = False


class Transactions:
    """Watches the transactions in the JVM of a session."""

    def __init__(self, session: SparkSession) -> None:
        jvm: Any = session._jvm
        delta = jvm.org.apache.spark.sql.delta
        self._observers = delta.TransactionExecutionObserver
        self._set_transaction = delta.actions.SetTransaction
        self._option = jvm.scala.Option
        self._current = threading.local()
        # Through a Java list, so that one Java object stands for the observer: py4j would
        # make and keep a new one for each use.
        holder = jvm.java.util.ArrayList()
        holder.add(_Observer(self._begin, self._prepare, self._abort))
        self._observer = holder.get(0)

    @contextmanager
    def guard(self, group: CommitGroup, ledger_at: LedgerAt) -> Iterator[None]:
        """Have what this thread commits move the group's ledger, if nobody else has moved it.

        Args:
            group: What is about to be committed.
            ledger_at: Reads the ledger in a version of the table.

        Raises:
            CommitConflict: Somebody else has moved the ledger.
        """
        guarded = _Guarded(group, ledger_at)
        before = self._observers.getObserver()
        self._current.guarded = guarded
        self._observers.setObserver(self._observer)
        try:
            yield
        except Exception as exc:
            if guarded.moved_to is not None:
                raise ledger.moved(group, guarded.moved_to) from exc
            if guarded.raised is not None and "Python Proxy" in str(exc):
                raise guarded.raised from exc
            raise
        finally:
            self._current.guarded = None
            self._observers.setObserver(before)

    def _begin(self, start: Any) -> Any:
        guarded: _Guarded = self._current.guarded
        with _kept(guarded):
            transaction = start.apply()
            if not guarded.done:
                self._watch(guarded, transaction)
        return transaction

    @staticmethod
    def _watch(guarded: _Guarded, transaction: Any) -> None:
        version = int(transaction.readVersion())
        if version >= 0:
            reached = guarded.ledger_at(version)
            if guarded.group.is_late(reached):
                guarded.moved_to = reached
                raise RuntimeError("the ledger has moved")
        # From here on a commit with this appId by somebody else is a conflict.
        transaction.readTxn().addOne(guarded.group.app_id)

    def _prepare(self, prepare: Any) -> Any:
        guarded: _Guarded = self._current.guarded
        with _kept(guarded):
            actions = prepare.apply()
            if guarded.done or actions.getClass().getName() == _NOTHING:
                return actions
            guarded.done = True
            group, now = guarded.group, self._option.apply(time.time_ns() // 1_000_000)
            return actions.appended(self._set_transaction(group.app_id, group.sequence, now))

    def _abort(self) -> None:
        # OPTIMIZE begins another transaction when it loses to somebody else's.
        self._current.guarded.done = False


@contextmanager
def _kept(guarded: _Guarded) -> Iterator[None]:
    """Keep what is raised, for whoever waits for the commit."""
    try:
        yield
    except Exception as exc:
        guarded.raised = exc
        raise


class _Observer:
    """Delta's TransactionExecutionObserver, for py4j."""

    class Java:
        """Read by py4j."""

        implements = ("org.apache.spark.sql.delta.TransactionExecutionObserver",)

    def __init__(
        self,
        begin: Callable[[Any], Any],
        prepare: Callable[[Any], Any],
        abort: Callable[[], None],
    ) -> None:
        self._begin = begin
        self._prepare = prepare
        self._abort = abort

    def startingTransaction(self, start: Any) -> Any:
        return self._begin(start)

    def preparingCommit(self, prepare: Any) -> Any:
        return self._prepare(prepare)

    def beginDoCommit(self) -> None: ...

    def beginBackfill(self) -> None: ...

    def beginPostCommit(self) -> None: ...

    def transactionCommitted(self) -> None: ...

    def transactionAborted(self) -> None:
        self._abort()
