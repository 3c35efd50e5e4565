"""What the benchmarks have in common: their results, and the CPU time of a call."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Spent:
    """Wall and own CPU time between the first record and the last commit."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass
class Results:
    """Lines of the table, shown as they come."""

    lines: list[str] = field(default_factory=list)

    def add(self, what: str, figure: str, remark: str = "") -> None:
        self.lines.append(f"| {what} | {figure} | {remark} |")
        print(self.lines[-1], flush=True)

    def rate(self, what: str, n_rows: int, spent: Spent, remark: str = "") -> None:
        cpu = f"{spent.cpu_seconds / n_rows * 1e6:,.0f} µs CPU a row in this process"
        self.add(what, f"{n_rows / spent.seconds:,.0f} rows/s", "; ".join(filter(None, [cpu, remark])))


def microseconds(call: Callable[[], object], n_rows: int, seconds: float = 1.0) -> float:
    """Return own CPU microseconds a row, the smallest of the calls that fit in ``seconds``."""
    call()
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return best / n_rows * 1e6
