"""How many processes the machine has room for beside everything else that runs on it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

#: What drawing takes of memory, with what a machine should keep free.
PROCESS_KB = 600_000

_TICKS = os.sysconf("SC_CLK_TCK")


class IdleCores:
    """Says how many cores are idle but for some processes of ours, and how many of these there is memory for.

    Where the system does not tell (no ``/proc``), it is one.

    Args:
        proc: Where the system tells.
        cores: How many cores may be used; None: those of this process, as far as its container allows.
        clock: Monotonic seconds.
    """

    def __init__(
        self, proc: Path = Path("/proc"), cores: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._proc = proc
        self._cores = _usable_cores() if cores is None else cores
        self._clock = clock
        self._last: tuple[float, float, dict[int, float]] | None = None  # when, and what had been used by then

    def __call__(self, ours: Iterable[int]) -> int:
        """Return how many processes there is room for, those of the ids ``ours`` among them; at least 1."""
        pids = list(ours)
        try:
            now, used = self._clock(), self._used_seconds()
            of_ours = {pid: seconds for pid in pids if (seconds := self._process_seconds(pid)) is not None}
            room_kb = self._available_kb()
        except (OSError, ValueError, IndexError, StopIteration):
            return 1
        last, self._last = self._last, (now, used, of_ours)
        if last is None or now <= last[0]:
            return 1
        own = sum(seconds - last[2].get(pid, 0.0) for pid, seconds in of_ours.items())
        busy = (used - last[1] - own) / (now - last[0])
        return max(1, min(int(self._cores - busy + 0.25), len(pids) + room_kb // PROCESS_KB))

    def _used_seconds(self) -> float:
        """Return the seconds that all cores have worked."""
        fields = [int(field) for field in (self._proc / "stat").read_text().split("\n", 1)[0].split()[1:9]]
        return (sum(fields) - fields[3] - fields[4]) / _TICKS  # but for idle and waiting

    def _process_seconds(self, pid: int) -> float | None:
        with suppress(OSError):  # it has ended
            fields = (self._proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / _TICKS
        return None

    def _available_kb(self) -> int:
        lines = (self._proc / "meminfo").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])


def _usable_cores(limit: Path = Path("/sys/fs/cgroup/cpu.max")) -> float:
    try:
        cores = float(len(os.sched_getaffinity(0)))
    except AttributeError:  # not on macOS
        cores = float(os.cpu_count() or 1)
    with suppress(OSError, ValueError):
        quota, period = limit.read_text().split()
        return min(cores, int(quota) / int(period))
    return cores
