"""``python -m benchmarks.maintenance_picture``: draw docs/maintenance.svg from a run of its own.

Two tables are appended to in turns, one maintained by the default policy, the other by none. Files
and the time of a filtered read are drawn against commits.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer

from deltaq.client import Client
from deltaq.worker import embedded
from deltaq.worker.engines.urls import open_table

_OUT = Path(__file__).parents[1] / "docs" / "maintenance.svg"
_TABLES = {"with": "the default policy", "without": "no policy"}
_PARTITIONS = 5
#: Points of a line.
_SAMPLES = 20
#: Of one chart and of what is around it.
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 360, 220, 70, 60, 110

#: Commits, and what was measured then.
Line = list[tuple[int, float]]


def main(
    appends: Annotated[int, typer.Option(help="To each table.")] = 2000,
    out: Annotated[Path, typer.Option(help="Where to draw.")] = _OUT,
) -> None:
    """Measure and draw."""
    files: dict[str, Line] = {table: [] for table in _TABLES}
    reads: dict[str, Line] = {table: [] for table in _TABLES}
    with (
        tempfile.TemporaryDirectory() as folder,
        embedded(Path(folder) / "lake", spark="off") as system,
        system.client() as client,
    ):
        system.wait_ready()
        for number in range(appends):
            for table in _TABLES:
                client.append(table, _rows(number), partition_by=["part"]).result(60)
            if not number:
                client.set_policy("without", compact_files=0).result(60)
            if (number + 1) % max(1, appends // _SAMPLES) == 0:
                for table in _TABLES:
                    path = system.settings.lake / table
                    files[table].append((number + 1, len(open_table(path).file_uris())))
                    reads[table].append((number + 1, _read_milliseconds(client, table)))
    out.write_text(_drawing(files, reads))
    typer.echo(out)


def _rows(number: int) -> pa.Table:
    return pa.table({"part": [f"p{number % _PARTITIONS}"] * 20, "k": range(number, number + 20)})


def _read_milliseconds(client: Client, table: str) -> float:
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        client.read(table, where="part = 'p3'").result(60)
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


def _drawing(files: dict[str, Line], reads: dict[str, Line]) -> str:
    width = 2 * (_LEFT + _WIDTH) + _GAP
    charts = "".join(
        _chart(lines, title, offset=place * (_LEFT + _WIDTH + _GAP // 2) + _LEFT, tell=tell)
        for place, (lines, title, tell) in enumerate(
            [
                (files, "data files", lambda value: f"{value:,.0f}"),
                (reads, "a filtered read, ms", lambda value: f"{value:,.0f}"),
            ]
        )
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" \
viewBox="0 0 {width} {_TOP + _HEIGHT + 60}" role="img" aria-labelledby="title desc">
  <title id="title">A table with a policy and one without</title>
  <desc id="desc">Two charts against the number of commits. With the default policy the number of
    files and the time of a filtered read stay level; without one both grow with each commit.</desc>
  <style>
    text {{ font: 13px system-ui, sans-serif; fill: #1f2328; }}
    .head {{ font-weight: 600; font-size: 15px; }}
    .axis {{ stroke: #9aa4b1; }}
    .with {{ stroke: #00796b; fill: none; stroke-width: 2.5; }}
    .without {{ stroke: #c2410c; fill: none; stroke-width: 2.5; stroke-dasharray: 6 4; }}
    @media (prefers-color-scheme: dark) {{
      text {{ fill: #e6edf3; }} .with {{ stroke: #4fd1bd; }} .without {{ stroke: #fb923c; }}
    }}
  </style>
{charts}</svg>
"""


def _chart(lines: dict[str, Line], title: str, *, offset: int, tell: Callable[[float], str]) -> str:
    most_x = max(x for line in lines.values() for x, _ in line)
    most_y = max(y for line in lines.values() for _, y in line)

    def at(point: tuple[int, float]) -> str:
        x, y = point
        return f"{offset + _WIDTH * x / most_x:.1f},{_TOP + _HEIGHT * (1 - y / most_y):.1f}"

    bottom = _TOP + _HEIGHT
    drawn = [
        f'<text class="head" x="{offset}" y="30">{title}</text>',
        f'<path class="axis" fill="none" d="M{offset} {_TOP}V{bottom}H{offset + _WIDTH}"/>',
        f'<text x="{offset - 8}" y="{_TOP + 5}" text-anchor="end">{tell(most_y)}</text>',
        f'<text x="{offset - 8}" y="{bottom}" text-anchor="end">0</text>',
        f'<text x="{offset + _WIDTH}" y="{bottom + 22}" text-anchor="end">{most_x:,} commits</text>',
    ]
    for name, line in lines.items():
        drawn.append(f'<polyline class="{name}" points="{" ".join(map(at, line))}"/>')
        drawn.append(_label(name, line[-1], at))
    return "".join(f"  {part}\n" for part in drawn)


def _label(name: str, last: tuple[int, float], at: Callable[[tuple[int, float]], str]) -> str:
    x, y = at(last).split(",")
    return f'<text x="{x}" y="{float(y) - 8:.1f}" text-anchor="end">{_TABLES[name]}</text>'


if __name__ == "__main__":
    typer.run(main)
