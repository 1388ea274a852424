"""How much memory is used, and what becomes of groups then."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaq.worker.pressure import GroupLimits, Pressure, limits_at

AT_REST = GroupLimits(max_requests=500, max_bytes=1 << 28)
GiB = 1 << 30


@pytest.mark.parametrize(
    ("used", "requests"), [(0.1, 500), (0.8, 500), (0.85, 375), (0.9, 250), (0.999, 2), (1.0, 1)]
)
def test_groups_shrink_from_the_high_mark_to_one_request(used: float, requests: int) -> None:
    assert abs(limits_at(AT_REST, used=used, high=0.8).max_requests - requests) <= 1


@given(used=st.floats(0, 2), high=st.floats(0.01, 1), more=st.floats(0, 1))
def test_more_used_memory_never_means_larger_groups(used: float, high: float, more: float) -> None:
    first, second = (limits_at(AT_REST, used=u, high=high) for u in (used, used + more))

    assert 1 <= second.max_requests <= first.max_requests <= AT_REST.max_requests
    assert 1 <= second.max_bytes <= first.max_bytes <= AT_REST.max_bytes


class Machine:
    """The files in which a kernel tells of its memory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.machine(total=16, available=12)

    def machine(self, *, total: int, available: int) -> None:
        self._write(
            "proc/meminfo",
            f"MemTotal: {total << 20} kB\nMemFree: 1 kB\nMemAvailable: {available << 20} kB\n",
        )

    def version_2(self, path: str, *, limit: str, used: int, cached: int = 0) -> None:
        folder = f"sys/fs/cgroup{path}"
        self._write(f"{folder}/memory.max", f"{limit}\n")
        self._write(f"{folder}/memory.current", f"{used}\n")
        self._write(f"{folder}/memory.stat", f"anon 5\ninactive_file {cached}\n")

    def version_1(self, path: str, *, limit: int, used: int, cached: int = 0) -> None:
        folder = f"sys/fs/cgroup/memory{path}"
        self._write(f"{folder}/memory.limit_in_bytes", f"{limit}\n")
        self._write(f"{folder}/memory.usage_in_bytes", f"{used}\n")
        self._write(f"{folder}/memory.stat", f"cache 5\ntotal_inactive_file {cached}\n")

    def process(self, *lines: str) -> None:
        self._write("proc/self/cgroup", "".join(f"{line}\n" for line in lines))

    def used(self) -> float:
        return Pressure(AT_REST, high=0.8, root=self.root).used()

    def _write(self, name: str, text: str) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_a_limit_the_machine_counts(machine: Machine) -> None:
    assert machine.used() == 0.25
    machine.process("0::/")
    assert machine.used() == 0.25
    machine.process("0::/user.slice")
    machine.version_2("/user.slice", limit="max", used=GiB)
    assert machine.used() == 0.25


def test_the_tightest_of_a_groups_limits_counts(machine: Machine) -> None:
    machine.process("0::/pods/deltaq")
    machine.version_2("/pods/deltaq", limit=str(4 * GiB), used=2 * GiB)
    assert machine.used() == 0.5
    machine.version_2("/pods", limit=str(4 * GiB), used=3 * GiB)
    assert machine.used() == 0.75


def test_file_pages_that_can_go_do_not_count(machine: Machine) -> None:
    machine.process("0::/deltaq")
    machine.version_2("/deltaq", limit=str(4 * GiB), used=4 * GiB, cached=2 * GiB)
    assert machine.used() == 0.5


def test_in_a_container_the_mount_is_the_group(machine: Machine) -> None:
    machine.process("0::/../outside")
    machine.version_2("", limit=str(4 * GiB), used=3 * GiB)
    assert machine.used() == 0.75


def test_control_groups_of_the_first_version_count_too(machine: Machine) -> None:
    machine.process("5:cpu:/", "4:memory:/docker/abc", "0::/")
    machine.version_1("/docker/abc", limit=4 * GiB, used=4 * GiB, cached=GiB)
    assert machine.used() == 0.75
    machine.version_1("/docker/abc", limit=(1 << 63) - 4096, used=4 * GiB)
    assert machine.used() == 0.25


def test_this_machine_can_be_read() -> None:
    assert 0 < Pressure(AT_REST, high=0.8).used() < 1


def test_where_nobody_tells_groups_stay_as_they_are(tmp_path: Path) -> None:
    assert Pressure(AT_REST, high=0.8, root=tmp_path).limits() == AT_REST


def test_a_control_group_that_is_removed_does_not_count(machine: Machine) -> None:
    machine.process("0::/deltaq")
    machine.version_2("/deltaq", limit=str(4 * GiB), used=3 * GiB)
    pressure = Pressure(AT_REST, high=0.8, root=machine.root)
    assert pressure.used() == 0.75
    shutil.rmtree(machine.root / "sys/fs/cgroup/deltaq")
    assert pressure.used() == 0.25


def test_a_change_is_told_once(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.machine(total=16, available=1)
    pressure = Pressure(AT_REST, high=0.8, root=machine.root)

    assert pressure.limits().max_requests < 500
    assert pressure.limits().max_requests < 500

    assert len(caplog.records) == 1
    assert "94 % of the memory is used; groups are smaller" in caplog.text
