"""What a soak found, as JSON and as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from tests.fault.soak.verdict import TableVerdict
from tests.fault.soak.watch import MiB, Sample, growth

#: Memory and files count as flat if they grow by no more than this.
_MOST_GROWTH = 0.15
_MOST_BYTES, _MOST_FILES = 48 * MiB, 8


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a soak did and found.

    Attributes:
        seconds: How long requests were submitted.
        seed: Of the faults.
        faults: How often each struck.
        tables: What each table says.
        leftovers: By table, leases, entries and files that nobody would clear away.
        unforeseen: Lines of the workers' log that tell of an error nobody had in mind.
        samples: What processes held over time.
    """

    seconds: float
    seed: int
    faults: dict[str, int]
    tables: dict[str, TableVerdict]
    leftovers: dict[str, list[str]]
    unforeseen: list[str]
    samples: list[Sample]

    @property
    def requests(self) -> int:
        return sum(table.requests for table in self.tables.values())

    @property
    def complaints(self) -> list[str]:
        """Everything that is not as it must be."""
        tables = [f"{name}: {c}" for name, table in self.tables.items() for c in table.complaints]
        left = [f"{name}: {len(f)} left: {', '.join(f[:5])}" for name, f in self.leftovers.items()]
        return [*tables, *left, *self._not_flat(), *self.unforeseen[:10]]

    def _not_flat(self) -> Iterator[str]:
        for name, allowed in (
            ("worker_bytes", _MOST_BYTES),
            ("worker_files", _MOST_FILES),
            ("worker_threads", _MOST_FILES),
            ("writer_bytes", _MOST_BYTES),
            ("writer_files", _MOST_FILES),
        ):
            early, late = growth(getattr(sample, name) for sample in self.samples)
            if late > early * (1 + _MOST_GROWTH) + allowed:
                yield f"{name} grew from {early} to {late}"

    def write(self, file: Path) -> None:
        """Write ``file`` as JSON and the text beside it, with the suffix ``.txt``."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.format(msgspec.json.encode(asdict(self))))
        file.with_suffix(".txt").write_text(self.text())

    def text(self) -> str:
        """Write the report for people."""
        complaints = self.complaints
        return "\n".join(
            [
                f"{self.requests} requests by 20 writers in {self.seconds:.0f} s "
                f"({self.requests / self.seconds:.0f} a second), seed {self.seed}",
                f"faults: {', '.join(f'{count} {kind}' for kind, count in self.faults.items())}",
                "",
                *self._of_tables(),
                "",
                *self._of_processes(),
                "",
                *(complaints or ["Nothing is lost, doubled, out of order, mistold or left over."]),
                "",
            ]
        )

    def _of_tables(self) -> Iterator[str]:
        yield (
            f"{'table':12}{'requests':>10}{'commits':>10}{'lost':>8}{'doubled':>9}"
            f"{'misordered':>12}{'mistold':>9}{'wrong rows':>12}"
        )
        for name, found in self.tables.items():
            yield (
                f"{name:12}{found.requests:>10}{found.commits:>10}{len(found.lost):>8}"
                f"{len(found.doubled):>9}{len(found.misordered):>12}{len(found.mistold):>9}"
                f"{len(found.wrong_rows):>12}"
            )

    def _of_processes(self) -> Iterator[str]:
        yield f"{'what is held':20}{'early':>10}{'late':>10}{'most':>10}"
        for name in ("worker_bytes", "writer_bytes", "redis_bytes"):
            values = [getattr(sample, name) // MiB for sample in self.samples]
            early, late = growth(values)
            yield f"{name.replace('bytes', 'MiB'):20}{early:>10}{late:>10}{max(values):>10}"
        for name in ("worker_files", "worker_threads", "writer_files"):
            values = [getattr(sample, name) for sample in self.samples]
            early, late = growth(values)
            yield f"{name:20}{early:>10}{late:>10}{max(values):>10}"
