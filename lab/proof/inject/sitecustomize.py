"""Found by every Python process that has this folder on its path: ends or misleads it at a named point.

``PROOF_KILL_AT=POINT:N`` kills the process with SIGKILL when the point is reached for the Nth time,
``PROOF_STALL_AT=POINT:N:SECONDS`` lets the thread hang there once, its other threads go on. ``PROOF_SABOTAGE``
breaks the consumer on purpose, so that the proof can be seen to fail: ``commit-first`` or ``unfenced``.
"""

from __future__ import annotations

import os
import pathlib
import signal
import sys
import time
from typing import Any


def _killer(count: int, *victims: Any) -> Any:
    left = [count]

    def reached() -> None:
        left[0] -= 1
        if left[0] <= 0:
            for victim in victims:
                os.kill(victim(), signal.SIGKILL)

    return reached


def _before(owner: Any, name: str, act: Any) -> None:
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        act()
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def _after(owner: Any, name: str, act: Any) -> None:
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if name != "poll" or result:
            act()
        return result

    setattr(owner, name, wrapped)


def _kill_at(point: str, count: int) -> None:
    if point == "report_rename":  # in the report process: take the consumer down with it
        reached = _killer(count, os.getppid, os.getpid)
        original = pathlib.Path.replace

        def replace(self: pathlib.Path, target: Any) -> Any:
            if str(target).endswith(".html") and "daily_" in str(target):
                reached()
            return original(self, target)

        pathlib.Path.replace = replace  # type: ignore[method-assign]
        return
    _at(point, _killer(count, os.getpid))


def _stall_at(point: str, count: int, seconds: float) -> None:
    left = [count]

    def reached() -> None:
        left[0] -= 1
        if left[0] == 0:
            time.sleep(seconds)
            print("the proof lets it go on", file=sys.stderr, flush=True)

    _at(point, reached)


def _at(point: str, act: Any) -> None:
    """Let ``act`` be called wherever the consumer's loop, or its way into the group, passes a point."""
    from kafka import KafkaConsumer, KafkaProducer
    from kafka.coordinator import base

    around, owner, name = {
        "before_join_answer": (_before, base.BaseCoordinator, "_process_join_group_response"),
        "before_sync": (_before, base, "SyncGroupRequest"),
        "before_sync_answer": (_before, base.BaseCoordinator, "_process_sync_group_response"),
        "after_poll": (_after, KafkaConsumer, "poll"),
        "after_begin": (_after, KafkaProducer, "begin_transaction"),
        "between_sends": (_before, KafkaProducer, "send"),
        "after_send_offsets": (_after, KafkaProducer, "send_offsets_to_transaction"),
        "before_commit": (_before, KafkaProducer, "commit_transaction"),
        "after_commit": (_after, KafkaProducer, "commit_transaction"),
    }[point]
    around(owner, name, act)


def _commit_first() -> None:
    """Commit the offsets in a transaction of their own, before anything is published."""
    from kafka import KafkaProducer

    send_offsets = KafkaProducer.send_offsets_to_transaction
    begin, commit, send = KafkaProducer.begin_transaction, KafkaProducer.commit_transaction, KafkaProducer.send
    waiting: list[Any] = []

    class Later:
        offset = 0

        def get(self, timeout: float | None = None) -> Any:
            return self

    def send_later(self: Any, *args: Any, **kwargs: Any) -> Any:
        waiting.append((args, kwargs))
        return Later()

    def commit_then_send(self: Any) -> None:
        commit(self)
        time.sleep(0.05)
        begin(self)
        for args, kwargs in waiting:
            send(self, *args, **kwargs)
        waiting.clear()
        commit(self)

    KafkaProducer.send = send_later
    KafkaProducer.send_offsets_to_transaction = send_offsets
    KafkaProducer.commit_transaction = commit_then_send


def _unfenced() -> None:
    """Commit offsets as clients older than KIP-447 do: with no generation and no member that the broker could refuse."""
    from kafka import KafkaProducer
    from kafka.structs import ConsumerGroupMetadata

    original = KafkaProducer.send_offsets_to_transaction

    def send_offsets(self: Any, offsets: Any, group: Any) -> Any:
        return original(self, offsets, ConsumerGroupMetadata(group.group_id, -1, "", None))

    KafkaProducer.send_offsets_to_transaction = send_offsets


def _step_clock(steps: list[float]) -> None:
    """Step the wall clock, one step every two seconds from the fifth on; the monotonic clock goes on."""
    real, began, done = time.time, time.monotonic(), [0]

    def stepped() -> float:
        due = max(0, min(len(steps), int((time.monotonic() - began - 5.0) / 2.0) + 1))
        if due > done[0]:
            print("the proof steps the clock\n" * (due - done[0]), end="", file=sys.stderr, flush=True)
            done[0] = due
        return real() + sum(steps[:due])

    time.time = stepped


def _set_clock_wrong(seconds: float) -> None:
    """Let the wall clock be wrong from the start."""
    real = time.time
    time.time = lambda: real() + seconds


if "PROOF_CLOCK_WRONG" in os.environ:
    _set_clock_wrong(float(os.environ["PROOF_CLOCK_WRONG"]))
if "PROOF_CLOCK_STEPS" in os.environ:
    _step_clock([float(step) for step in os.environ["PROOF_CLOCK_STEPS"].split(",")])
if "PROOF_KILL_AT" in os.environ and "broker" not in sys.argv:
    _point, _, _count = os.environ["PROOF_KILL_AT"].partition(":")
    _kill_at(_point, int(_count or 1))
if "PROOF_STALL_AT" in os.environ and "broker" not in sys.argv:
    _point, _count, _seconds = os.environ["PROOF_STALL_AT"].split(":")
    _stall_at(_point, int(_count), float(_seconds))
if os.environ.get("PROOF_SABOTAGE") == "commit-first":
    _commit_first()
if os.environ.get("PROOF_SABOTAGE") == "unfenced":
    _unfenced()
