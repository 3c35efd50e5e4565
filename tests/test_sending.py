"""Rows on their way to Kafka: in order, paced, acknowledged, stopped; late truths between them."""

from __future__ import annotations

import itertools
import math
import os
import signal
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.ground.errors import Unavailable
from airquality.ground.settings import Settings
from airquality.incoming import Headers, LateTruth, Operation, parse_record, with_late_truths
from airquality.records import RAW_COLUMNS, Reading, hour_of, parse_reading
from airquality.stream import sending

FIRST = hour_of(datetime(2005, 2, 5, 3))


def frame_of(hours: list[int], source: dataset.DataSource = "uci") -> Frame:
    """Return rows at these hours; the first value of each is its row number."""
    values = np.full((len(hours), len(RAW_COLUMNS)), np.nan)
    values[:, 0] = np.arange(len(hours))
    return Frame(np.array(hours, dtype=np.int64), values, source)


def rows_of(n_rows: int) -> list[Reading]:
    return list(sending.readings(frame_of(list(range(FIRST, FIRST + n_rows))), "s"))


class FakeClock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class FakeBroker:
    """Acknowledges each record ``behind`` records later, or when its future is waited for."""

    def __init__(self, behind: int = 0, fails: int = 0) -> None:
        self.records: list[tuple[bytes, bytes]] = []
        self.headers: list[list[tuple[str, bytes | None]]] = []
        self.most_in_flight = 0
        self._behind = behind
        self._fails = fails
        self._waiting: list[tuple[int, FakeFuture]] = []

    def send(self, key: bytes, value: bytes, headers: Headers = ()) -> Future[object]:
        self.records.append((key, value))
        self.headers.append([*headers])
        future = FakeFuture(self)
        self._waiting.append((len(self.records), future))
        self.most_in_flight = max(self.most_in_flight, len(self._waiting))
        if len(self._waiting) > self._behind:
            self.answer()
        return future

    def answer(self) -> None:
        number, future = self._waiting.pop(0)
        if number == self._fails:
            future.set_exception(RuntimeError("broker says no"))
        else:
            future.set_result(number)


class FakeFuture(Future[object]):
    """A future whose broker answers when somebody waits."""

    def __init__(self, broker: FakeBroker) -> None:
        super().__init__()
        self._broker = broker

    def exception(self, timeout: float | None = None) -> BaseException | None:
        while not self.done():
            self._broker.answer()
        return super().exception(timeout)


def never() -> bool:
    return False


def at_once() -> sending.Pace:
    return sending.Pace(0.0)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_rows_come_in_event_time_order_and_equal_hours_in_file_order(hours: list[int]) -> None:
    sent = list(sending.readings(frame_of(hours), "s"))
    assert [(row.hour, row.values[0]) for row in sent] == sorted(zip(hours, range(len(hours)), strict=True))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=10), st.integers(1, 4))
def test_loop_moves_on_by_the_span_of_the_file(hours: list[int], passes: int) -> None:
    frame = frame_of(hours)
    once = list(sending.readings(frame, "s"))
    looped = list(itertools.islice(sending.readings(frame, "s", loop=True), passes * len(hours)))
    span = max(hours) - min(hours) + 1
    for lap in range(passes):
        part = looped[lap * len(hours) : (lap + 1) * len(hours)]
        assert [row.hour for row in part] == [row.hour + lap * span for row in once]
        assert [row.packed() for row in part] == [row.packed() for row in once]
    assert len({row.hour for row in looped}) == passes * len(set(hours))


def test_records_are_keyed_by_station_and_hold_the_row() -> None:
    broker = FakeBroker()
    rows = rows_of(3)
    sending.replay(rows, broker.send, at_once(), never, lambda _: None)
    assert [key for key, _ in broker.records] == [b"s"] * 3
    parsed = [parse_reading(key, value) for key, value in broker.records]
    assert [(row.station_id, row.hour, row.values[0]) for row in parsed] == [("s", row.hour, row.values[0]) for row in rows]
    assert all(math.isnan(value) for row in parsed for value in row.values[1:])


@pytest.mark.parametrize("in_flight", [1, 3, 100])
@pytest.mark.parametrize("behind", [0, 2, 200])
def test_every_row_is_acknowledged_once_in_order_within_the_limit(in_flight: int, behind: int) -> None:
    broker = FakeBroker(behind)
    seen: list[int] = []
    sending.replay(rows_of(20), broker.send, at_once(), never, seen.append, in_flight)
    assert seen == list(range(1, 21))
    assert broker.most_in_flight <= max(in_flight, 1)


def test_a_row_counts_only_once_acknowledged() -> None:
    broker = FakeBroker(behind=5)
    seen: list[int] = []
    at_send: list[int] = []

    def send(key: bytes, value: bytes, _: Headers) -> Future[object]:
        at_send.append(len(seen))
        return broker.send(key, value)

    sending.replay(rows_of(10), send, at_once(), never, seen.append)
    assert at_send == [0, 0, 0, 0, 0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("behind", [0, 3, 50])
def test_a_failed_row_ends_the_replay_by_name(behind: int) -> None:
    seen: list[int] = []
    broker = FakeBroker(behind, fails=7)
    with pytest.raises(Unavailable, match=r"row 7 \(2005-02-05T09:00:00\) was not acknowledged: RuntimeError.*The 6 rows"):
        sending.replay(rows_of(20), broker.send, at_once(), never, seen.append)
    assert seen == [1, 2, 3, 4, 5, 6]


def test_a_broker_that_never_answers_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_ACKNOWLEDGE_SECONDS", 0.01)
    with pytest.raises(Unavailable, match=r"row 1 .*TimeoutError"):
        sending.replay(rows_of(2), lambda *_: Future(), at_once(), never, lambda _: None)


def paced(interval_seconds: float, clock: FakeClock) -> tuple[sending.Pace, list[float], Callable[..., Future[object]]]:
    times: list[float] = []
    broker = FakeBroker()

    def send(key: bytes, value: bytes, _: Headers) -> Future[object]:
        times.append(clock.now - 100)
        return broker.send(key, value)

    return sending.Pace(interval_seconds, clock, clock.sleep), times, send


@pytest.mark.parametrize("interval_seconds", [0.0, 0.01, 0.25, 2.0])
def test_rows_keep_their_distance(interval_seconds: float) -> None:
    pace, times, send = paced(interval_seconds, FakeClock())
    sending.replay(rows_of(5), send, pace, never, lambda _: None)
    assert times == pytest.approx([interval_seconds * k for k in range(5)])


def test_oversleeping_does_not_add_up() -> None:
    clock = FakeClock()
    pace, times, send = paced(0.05, clock)
    pace._sleep = lambda seconds: clock.sleep(seconds + 0.001)
    sending.replay(rows_of(50), send, pace, never, lambda _: None)
    assert times == pytest.approx([0.05 * k for k in range(50)], abs=0.0011)


def test_a_stall_is_not_made_up_for_in_a_burst() -> None:
    clock = FakeClock()
    pace, times, send = paced(1.0, clock)

    def stall_after_the_second(number: int) -> None:
        clock.now += 10.0 if number == 2 else 0.3

    sending.replay(rows_of(5), send, pace, never, stall_after_the_second, in_flight=1)
    assert times == pytest.approx([0, 1, 11, 12, 13])


def test_stopping_waits_for_what_was_sent() -> None:
    broker = FakeBroker(behind=100)
    seen: list[int] = []
    sending.replay(rows_of(20), broker.send, at_once(), lambda: len(broker.records) == 4, seen.append)
    assert len(broker.records) == 4
    assert seen == [1, 2, 3, 4]


def test_stopping_does_not_wait_for_the_next_row_to_be_due() -> None:
    clock = FakeClock()
    pace, times, send = paced(3600.0, clock)
    sending.replay(rows_of(3), send, pace, lambda: clock.now > 101, lambda _: None)
    assert times == [0]
    assert clock.now < 102


def test_stop_says_why() -> None:
    clock = FakeClock()
    stop = sending.Stop(5.0, clock)
    assert not stop()
    assert stop.reason == ""
    clock.now += 5
    assert stop()
    assert stop.reason == "Stopped by --timeout-seconds: "


def test_stop_hears_signals_only_while_entered() -> None:
    def handler(*_: object) -> None:
        raise AssertionError("not while entered")

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with sending.Stop(math.inf) as stop:
            assert not stop()
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop()
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "a second signal must end the process"
        assert stop.reason == "Stopped by SIGTERM: "
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


class RefusingClient:
    """A client that refuses a record before it has a future for it, as Kafka's does without metadata."""

    def send(self, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> object:
        raise RuntimeError(f"no metadata of {topic}")


def test_a_record_refused_at_once_is_a_row_not_acknowledged() -> None:
    with pytest.raises(Unavailable, match=r"row 1 .*no metadata of raw\.test"):
        sending.replay(
            rows_of(2), sending.sender(RefusingClient(), Settings(raw_topic="raw.test")), at_once(), never, lambda _: None
        )


def test_truth_delay_sends_each_row_without_its_truth_and_the_truth_before_the_row_that_may_know_it() -> None:
    broker, seen = FakeBroker(), list[int]()
    rows = rows_of(30)
    n_truths = sending.replay(with_late_truths(rows, 24), broker.send, at_once(), never, seen.append)
    sent = [parse_record(*record, headers) for record, headers in zip(broker.records, broker.headers, strict=True)]
    found = [record for record in sent if not isinstance(record, Operation)]
    assert len(found) == len(sent)
    assert [row.hour for row in found if not isinstance(row, LateTruth)] == [row.hour for row in rows]
    assert all(math.isnan(row.actual) for row in found if isinstance(row, Reading))
    truths = [truth for truth in found if isinstance(truth, LateTruth)]
    assert [(truth.hour, truth.value) for truth in truths] == [(row.hour, row.actual) for row in rows]
    after = [found[index + 1].hour - truth.hour for index, truth in enumerate(found[:36]) if isinstance(truth, LateTruth)]
    assert after == [24] * 6
    assert (seen, n_truths) == ([*range(1, 31)], 30)


def test_a_late_truth_that_is_refused_is_named() -> None:
    broker = FakeBroker(fails=26)
    with pytest.raises(Unavailable, match=r"the late truth of .* was not acknowledged: .*The 25 rows before it"):
        sending.replay(with_late_truths(rows_of(30), 25), broker.send, at_once(), never, lambda _: None)


@pytest.mark.parametrize("kept_out", [False, True], ids=["on a terminal", "under nohup"])
def test_stop_hears_a_closed_terminal_unless_nohup_keeps_it_out(kept_out: bool) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if kept_out else signal.SIG_DFL)
    try:
        with sending.Stop(math.inf) as stop:
            assert (signal.getsignal(signal.SIGHUP) is signal.SIG_IGN) is kept_out
            if not kept_out:
                os.kill(os.getpid(), signal.SIGHUP)
            assert stop() is not kept_out
    finally:
        signal.signal(signal.SIGHUP, before)
