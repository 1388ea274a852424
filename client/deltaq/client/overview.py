"""The screen of ``deltaq top``: totals, then the tables that need somebody's eyes most.

It is put together line by line, for a width and a height: nothing wraps, and what has no room is
counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

from rich.cells import cell_len
from rich.text import Text

from deltaq.client.look import Look
from deltaq.tasks.request import Lane
from deltaq.tasks.status import TableStatus
from deltaq.tasks.workers import WorkerStatus

MiB = 1 << 20
#: Columns that the heading of a total takes.
_LABEL = 9
#: Lost workers, and problems of workers, that are named.
_NAMED = 3
#: From this width on each lane has a column of its own.
_WIDE = 110
_BAD, _HEADING, _DIM, _PLAIN = "bold red", "bold", "dim", ""

#: A line and its style.
Line = tuple[str, str]


class Order(StrEnum):
    """What the tables are ordered by; the most comes first. By age, those that fail do."""

    AGE = "age"
    DEPTH = "depth"
    RATE = "rate"


def draw(look: Look, *, width: int, height: int, order: Order, keys: str) -> Text:
    """Draw a look so that it fits a screen; the last line tells the keys."""
    if look.problem is not None:
        lines = [(line, _BAD) for line in _broken(look.problem.split(" "), width, between=" ")]
        return _joined([*lines[: height - 1], (keys, _DIM)])
    totals = list(_totals(look, width))
    room = height - len(totals) - 4  # an empty line, the heading, what is left out, the footer
    tables = sorted(look.tables, key=_key(look, order))
    body, shown = _table_lines(tables, look, width=width, room=room)
    rest = _left_out(tables[shown:], look.idle_tables)
    return _joined([*totals, ("", _PLAIN), *body, (rest, _DIM), (keys, _DIM)])


def requests_of(status: TableStatus) -> int:
    """Count what waits for a table."""
    return sum(lane.requests for lane in status.lanes.values())


def bytes_of(status: TableStatus) -> int:
    """Add up the staged bytes that wait for a table."""
    return sum(lane.size_bytes for lane in status.lanes.values())


def age_of(status: TableStatus) -> float:
    """Tell for how many seconds the oldest request of a table has waited."""
    return max((lane.oldest_seconds for lane in status.lanes.values()), default=0.0)


def told_of_workers(workers: Sequence[WorkerStatus]) -> list[str]:
    """Tell in lines which workers there are, which have gone silent, and what ails the others."""
    alive = sum(not worker.is_lost for worker in workers)
    told = f"{counted(alive, 'worker')} alive" if alive else "no worker is alive"
    lost = [f"lost: {words}" for words in _first(_lost(workers))]
    return ["; ".join([told, *lost]), *_first(_problems(workers))]


def counted(number: int, thing: str) -> str:
    """Write a number and what it counts."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Write a duration in at most seven characters."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 360_000 else f"{seconds / 86_400:,.0f} d"


def shortened(text: str, width: int) -> str:
    """Cut a text to a width behind a whole word, unless its first word is longer."""
    text = " ".join(text.split())
    if cell_len(text) <= width:
        return text
    kept = text[: width - 3]
    whole = kept if text[width - 3] == " " else kept.rpartition(" ")[0]
    return f"{whole or kept}..."


def _joined(lines: Sequence[Line]) -> Text:
    text = Text(no_wrap=True, overflow="crop", end="")
    for place, (line, style) in enumerate(lines):
        text.append(("\n" if place else "") + line, style)
    return text


def _totals(look: Look, width: int) -> Iterator[Line]:
    waiting = [table for table in look.tables if table.lanes]
    queue = [
        counted(sum(map(requests_of, waiting)), "request"),
        f"{len(waiting):,} of {len(waiting) + look.idle_tables:,} tables",
        f"{sum(map(bytes_of, waiting)) / MiB:,.1f} MiB",
        *([f"oldest {duration(max(map(age_of, waiting)))}"] if waiting else []),
        f"{look.settled_per_second:,.0f} done/s in {look.commits_per_second:,.0f} commits/s",
    ]
    yield from _total("queue", queue, width)
    if failing := sum(table.retrying is not None for table in look.tables):
        facts = [f"{counted(failing, 'table')} cannot go on: tried again and again"]
        yield from _total("failing", facts, width, _BAD)
    yield from _worker_totals(look.workers, width)
    if look.dead_letters:
        facts = [f"{counted(look.dead_letters, 'request')} given up", "see deltaq dead-letters"]
        yield from _total("dead", facts, width, _BAD)
    if look.unseen:
        yield from _total("unseen", look.unseen.split(" "), width, _BAD, between=" ")


def _worker_totals(workers: Sequence[WorkerStatus], width: int) -> Iterator[Line]:
    alive = [worker.facts for worker in workers if not worker.is_lost]
    if not alive:
        yield from _total("workers", ["none alive"], width, _BAD)
    else:
        memory = sum(facts.memory_bytes + facts.jvm_memory_bytes for facts in alive)
        spark = Counter(facts.spark for facts in alive)
        told = [
            f"{len(alive):,} alive",
            f"{sum(f.busy for f in alive):,} of {sum(f.slots for f in alive):,} slots busy",
            *(f"Spark {state} on {count:,}" for state, count in sorted(spark.items())),
            f"{memory / MiB:,.0f} MiB",
        ]
        yield from _total("workers", told, width)
    if lost := _lost(workers):
        yield from _total("lost", [f"{len(lost):,}", *_first(lost)], width, _BAD)
    for problem in _first(_problems(workers)):
        words = shortened(problem, 2 * (width - _LABEL)).split(" ")
        yield from _total("problem", words, width, _BAD, between=" ")


def _lost(workers: Sequence[WorkerStatus]) -> list[str]:
    return [
        f"{worker.facts.name} silent for {duration(worker.silent_seconds)}"
        for worker in workers
        if worker.is_lost
    ]


def _problems(workers: Sequence[WorkerStatus]) -> list[str]:
    return [
        f"{worker.facts.name}: {problem}"
        for worker in workers
        if not worker.is_lost
        for problem in worker.facts.problems.values()
    ]


def _first(facts: Sequence[str]) -> list[str]:
    more = len(facts) - _NAMED
    return [*facts[:_NAMED], *([f"{more:,} more"] if more > 0 else [])]


def _total(
    label: str, facts: Sequence[str], width: int, style: str = _PLAIN, *, between: str = ", "
) -> Iterator[Line]:
    for line in _broken(facts, width - _LABEL, between=between):
        yield f"{label:<{_LABEL}}{line}", style
        label = ""


def _broken(parts: Sequence[str], width: int, *, between: str) -> list[str]:
    """Put parts into lines, each of them whole."""
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}{between}{part}" if lines[-1] else part
        if cell_len(longer) <= width:
            lines[-1] = longer
        else:
            lines[-1] += between.rstrip() if lines[-1] else ""
            lines.append(shortened(part, width))
    return [line for line in lines if line]


def _key(look: Look, order: Order) -> Callable[[TableStatus], tuple[float, ...]]:
    def key(table: TableStatus) -> tuple[float, ...]:
        match order:
            case Order.AGE:
                return (table.retrying is None, -age_of(table))
            case Order.DEPTH:
                return (-requests_of(table), -age_of(table))
            case Order.RATE:
                return (-look.rates.get(table.table, 0.0), -age_of(table))

    return key


def _table_lines(
    tables: Sequence[TableStatus], look: Look, *, width: int, room: int
) -> tuple[list[Line], int]:
    """Draw the tables for which there is room; an error takes a line of its own."""
    shown: list[TableStatus] = []
    for table in tables:
        room -= 2 if table.retrying else 1
        if room < 0:
            break
        shown.append(table)
    wide = width >= _WIDE
    heading = ["table", *(("live", "bulk", "maint.") if wide else ("waiting",))]
    rows = [[*heading, "oldest", "MiB", "done/s", "held by"]]
    rows += [_cells(table, look.rates.get(table.table), wide=wide) for table in shown]
    head, *drawn = _aligned(rows, width)
    lines: list[Line] = [(head, _HEADING)]
    for table, line in zip(shown, drawn, strict=True):
        lines.append((line, _PLAIN))
        if noted := table.retrying:
            again = f"in {duration(noted.next_seconds)}" if noted.next_seconds else "now"
            told = f"failed {counted(noted.tries, 'time')}, tried again {again}: {noted.error}"
            lines.append((f"  {shortened(told, width - 2)}", _BAD))
    return lines, len(shown)


def _cells(table: TableStatus, rate: float | None, *, wide: bool) -> list[str]:
    if wide:
        waiting = [f"{table.lanes[ln].requests:,}" if ln in table.lanes else "" for ln in Lane]
    else:
        waiting = [f"{requests_of(table):,}"]
    return [
        table.table,
        *waiting,
        duration(age_of(table)) if table.lanes else "",
        f"{bytes_of(table) / MiB:,.1f}",
        "" if rate is None else f"{rate:,.0f}",
        table.holder or "nobody",
    ]


def _aligned(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Align columns: names to the left, numbers between them to the right.

    The first and the last share what the numbers leave, and are cut in the middle if need be,
    where names differ least.
    """
    columns = list(zip(*rows, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    left = width - sum(widths[1:-1]) - 2 * (len(widths) - 1)
    widths[0] = min(widths[0], max(left // 2, left - widths[-1]))
    widths[-1] = min(widths[-1], left - widths[0])
    lines = []
    for first, *numbers, last in rows:
        cells = [_cut(first, widths[0]).ljust(widths[0])]
        cells += [text.rjust(size) for text, size in zip(numbers, widths[1:-1], strict=True)]
        lines.append("  ".join([*cells, _cut(last, widths[-1])]).rstrip())
    return lines


def _cut(name: str, width: int) -> str:
    if len(name) <= width:
        return name
    kept = max(0, width - 3)
    return f"{name[: kept - kept // 2]}...{name[len(name) - kept // 2 :]}"


def _left_out(tables: Sequence[TableStatus], idle: int) -> str:
    waiting = [table for table in tables if table.lanes]
    more = len(waiting) + idle
    if not more:
        return ""
    if not waiting:
        return f"and {more:,} more, all idle"
    requests = sum(map(requests_of, waiting))
    return f"and {more:,} more, {len(waiting):,} of them with {counted(requests, 'request')}"
