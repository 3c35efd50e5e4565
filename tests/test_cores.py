"""How many report processes there is room for, from what a made-up /proc says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airquality.reports.cores import PROCESS_KB, IdleCores, _usable_cores

TICKS = os.sysconf("SC_CLK_TCK")


class Machine:
    """Four cores, of which ``busy`` were at work for the last ten seconds, and processes of ours that used some of that."""

    def __init__(self, proc: Path) -> None:
        self.proc, self.now, self.used, self.ours = proc, 0.0, 0.0, dict[int, float]()
        self.cores = IdleCores(proc, 4, lambda: self.now)

    def room(self, busy: float = 0.0, ours: dict[int, float] | None = None, free_kb: int = 100 * PROCESS_KB) -> int:
        self.now += 10.0
        self.used += 10.0 * busy
        for pid, share in (ours or {}).items():
            self.ours[pid] = self.ours.get(pid, 0.0) + 10.0 * share
            (self.proc / str(pid)).mkdir(exist_ok=True)
            line = f"{pid} (py thon) S {' 0' * 10} {int(self.ours[pid] * TICKS)} 0 0"
            (self.proc / str(pid) / "stat").write_text(line)
        idle = 40.0 * self.now - self.used
        (self.proc / "stat").write_text(f"cpu  {int(self.used * TICKS)} 0 0 {int(idle * TICKS)} 7 0 0 0 0 0\ncpu0 1\n")
        (self.proc / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:   {free_kb} kB\n")
        return self.cores(ours or {})


@pytest.mark.parametrize(("busy", "room"), [(0.0, 4), (1.0, 3), (2.5, 1), (2.2, 2), (4.0, 1)])
def test_idle_cores_are_those_that_nobody_uses_and_at_least_one(tmp_path: Path, busy: float, room: int) -> None:
    machine = Machine(tmp_path)
    assert machine.room() == 1  # at first nobody knows
    assert machine.room(busy) == room


def test_idle_cores_are_not_taken_by_our_own_processes(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.room(ours={11: 0.0, 12: 0.0})
    assert machine.room(2.0, ours={11: 1.0, 12: 1.0}) == 4
    assert machine.room(4.0, ours={11: 0.1, 12: 0.1}) == 1  # others push ours aside


def test_idle_cores_without_memory_are_of_no_use(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.room()
    assert machine.room(free_kb=2 * PROCESS_KB) == 2
    assert machine.room(free_kb=0, ours={11: 0.0}) == 1


def test_idle_cores_where_the_system_does_not_tell_are_one(tmp_path: Path) -> None:
    assert IdleCores(tmp_path / "absent", 4)([]) == 1


def test_idle_cores_of_a_container_are_what_it_is_allowed(tmp_path: Path) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text("50000 100000\n")
    assert _usable_cores(limit) == 0.5
    limit.write_text("max 100000\n")
    assert _usable_cores(limit) >= 1
