"""Draws what a simulation found."""

from __future__ import annotations

import itertools

from benchmarks.simulation.figures import Sample
from benchmarks.simulation.play import Found

#: Of one chart and of what is around it.
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 360, 180, 70, 60, 40


def drawing(found: Found) -> str:
    """Draw, as SVG, the age of the oldest request and the load of Redis against the time."""
    samples = found.samples
    charts = _chart(
        "oldest request, s", [(s.seconds, s.oldest_seconds) for s in samples], 0, "{:,.0f}"
    ) + _chart("cores of Redis", _loads(samples), 1, "{:.2f}")
    width, height = 2 * (_LEFT + _WIDTH) + _GAP, _TOP + _HEIGHT + 50
    cast = found.cast
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" \
aria-labelledby="title desc">
  <title id="title">A simulation of {cast.workers} workers and {cast.tables} tables</title>
  <desc id="desc">Two charts against the seconds of the simulation: the age of the oldest request
    without an outcome, which rises with the burst and when workers are killed, and the cores that
    Redis uses.</desc>
  <style>
    text {{ font: 13px system-ui, sans-serif; fill: #1f2328; }}
    .head {{ font-weight: 600; font-size: 15px; }}
    .axis {{ stroke: #9aa4b1; fill: none; }}
    .line {{ stroke: #00796b; fill: none; stroke-width: 2; }}
    @media (prefers-color-scheme: dark) {{
      text {{ fill: #e6edf3; }} .line {{ stroke: #4fd1bd; }}
    }}
  </style>
{charts}</svg>
"""


def _loads(samples: list[Sample]) -> list[tuple[float, float]]:
    """Tell the cores that Redis used between two samples."""
    return [
        (b.seconds, (b.redis_seconds - a.redis_seconds) / (b.seconds - a.seconds))
        for a, b in itertools.pairwise(samples)
    ]


def _chart(title: str, line: list[tuple[float, float]], place: int, tell: str) -> str:
    left, bottom = _LEFT + place * (_LEFT + _WIDTH + _GAP // 2), _TOP + _HEIGHT
    most_x, most_y = (max(value, 1e-6) for value in map(max, zip(*line, strict=True)))

    def at(x: float, y: float) -> str:
        return f"{left + _WIDTH * x / most_x:.1f},{_TOP + _HEIGHT * (1 - y / most_y):.1f}"

    parts = [
        f'<text class="head" x="{left}" y="30">{title}</text>',
        f'<path class="axis" d="M{left} {_TOP}V{bottom}H{left + _WIDTH}"/>',
        f'<text x="{left - 8}" y="{_TOP + 5}" text-anchor="end">{tell.format(most_y)}</text>',
        f'<text x="{left - 8}" y="{bottom}" text-anchor="end">0</text>',
        f'<text x="{left + _WIDTH}" y="{bottom + 22}" text-anchor="end">{most_x:,.0f} s</text>',
        f'<polyline class="line" points="{" ".join(at(x, y) for x, y in line)}"/>',
    ]
    return "".join(f"  {part}\n" for part in parts)
