"""Showing how far many requests are: a bar where somebody looks, lines of text elsewhere."""

from __future__ import annotations

import importlib
import sys
import time
from html import escape
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

#: Seconds between two pictures of a bar.
_PICTURE_SECONDS = 0.1
#: Seconds between two lines where they stay, as in a log.
_LINE_SECONDS = 10.0


class Shown(Protocol):
    """Counts to show, of which the text tells more."""

    @property
    def done(self) -> int:
        """How many are settled."""
        ...

    @property
    def total(self) -> int:
        """How many there are."""
        ...


class Display:
    """Shows counts, but not more often than somebody can see.

    Args:
        every: Seconds between two pictures.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self._next = 0.0

    def show(self, counts: Shown) -> None:
        """Show counts, if it is time."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every
            self._draw(counts)

    def end(self, counts: Shown) -> None:
        """Show the last counts."""
        self._draw(counts)

    def _draw(self, counts: Shown) -> None:
        raise NotImplementedError


class Bar(Display):
    """A bar in a terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__(_PICTURE_SECONDS)
        self._progress = Progress(
            BarColumn(), TextColumn("{task.description}"), console=console, auto_refresh=False
        )
        self._task: TaskID | None = None

    def _draw(self, counts: Shown) -> None:
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task("")
        self._progress.update(
            self._task, total=counts.total, completed=counts.done, description=str(counts)
        )
        self._progress.refresh()

    def end(self, counts: Shown) -> None:
        """Show the last counts and leave the bar there."""
        super().end(counts)
        self._progress.stop()


class Lines(Display):
    """Lines of text, the first one when something is to be told for the first time."""

    def __init__(self, file: TextIO) -> None:
        super().__init__(_LINE_SECONDS)
        self._file = file

    def _draw(self, counts: Shown) -> None:
        print(counts, file=self._file, flush=True)


class Cell(Display):
    """A bar in the output of a notebook's cell."""

    def __init__(self) -> None:
        super().__init__(_PICTURE_SECONDS)
        self._shell: Any = importlib.import_module("IPython.display")
        self._handle: Any = None

    def _draw(self, counts: Shown) -> None:
        picture = self._shell.HTML(as_html(counts))
        if self._handle is None:
            self._handle = self._shell.display(picture, display_id=True)
        else:
            self._handle.update(picture)


def as_html(counts: Shown) -> str:
    """Write counts as a bar with text beside it."""
    return f'<progress value="{counts.done}" max="{counts.total}"></progress> {escape(str(counts))}'


def make_display(file: TextIO | None = None) -> Display:
    """Choose how to show counts: as suits where the program runs, or on a file.

    Args:
        file: Where to write; standard error by default.
    """
    console = Console(file=file, stderr=file is None)
    if console.is_jupyter and file is None:
        return Cell()
    if console.is_terminal:
        return Bar(console)
    return Lines(file or sys.stderr)
