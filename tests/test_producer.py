"""The replay: order, pace, what counts as sent, what is shown, and what a wrong command line gets."""

from __future__ import annotations

import itertools
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import producer
from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.ground.errors import Unavailable
from airquality.ground.settings import Settings
from airquality.incoming import Headers, LateTruth, Operation, parse_record, with_late_truths
from airquality.records import RAW_COLUMNS, Reading, hour_of, parse_reading
from airquality.stream import kafka_io, sending
from lab.broker import Broker, MockBroker
from lab.ports import free_port
from tests import data_files

ROOT = Path(__file__).resolve().parent.parent
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
        assert [row.digest() for row in part] == [row.digest() for row in once]
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


def shown(capsys: pytest.CaptureFixture[str], n_rows: int, n_sent: int, slow: bool) -> list[str]:
    with sending.Progress(n_rows, n_rows, "air_quality.raw", slow, print) as progress:
        for number in range(1, n_sent + 1):
            progress(number)
    return capsys.readouterr().out.splitlines()


def test_slow_replay_shows_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, 1404, 17, slow=True)
    assert lines == [f"Sent row {k}/1404 to air_quality.raw" for k in range(1, 18)]


def test_fast_replay_shows_some_rows_and_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, 1404, 250, slow=False) == [f"Sent row {k}/1404 to air_quality.raw" for k in (100, 200, 250)]
    assert shown(capsys, 1404, 200, slow=False)[-1] == "Sent row 200/1404 to air_quality.raw"
    assert shown(capsys, 1404, 0, slow=False) == []


def test_later_passes_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, 2, 5, slow=True)
    assert lines[1:] == [
        "Sent row 2/2 to air_quality.raw",
        "Sent row 1/2 to air_quality.raw (pass 2)",
        "Sent row 2/2 to air_quality.raw (pass 2)",
        "Sent row 1/2 to air_quality.raw (pass 3)",
    ]


def test_on_a_terminal_a_fast_replay_shows_a_bar_and_the_last_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with sending.Progress(300, 300, "t", slow=False, say=print) as progress:
        for number in range(1, 301):
            progress(number)
    out, err = capsys.readouterr()
    assert out == "Sent row 300/300 to t\n"
    assert "300/300" in err


def test_announcement_of_an_odd_station_holds_no_control_character() -> None:
    line = producer.announcement(Path("x.csv"), frame_of([1], "uci"), "roof\x1b[31m\nnext")
    assert line.isprintable()
    assert "roof" in line


@pytest.mark.parametrize(("source", "loud"), [("uci", False), ("unlabelled", False), ("simulated", True)])
def test_announcement_names_the_source(source: dataset.DataSource, loud: bool) -> None:
    line = producer.announcement(Path("x.csv"), frame_of([1], source), "s")
    assert f"data source: {source}" in line
    assert ("*** SIMULATED DATA" in line) is loud


def clean_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("KAFKA_", "RAW_", "LOG_"))}


@pytest.fixture
def csv_path(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    dataset.write_stream_csv(frame_of([FIRST + 2, FIRST, FIRST + 1]), path)
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--csv"),
        (["--csv", "{csv}", "--rate", "1", "--delay", "1"], "not allowed with"),
        (["--csv", "{csv}", "--rate", "0"], "'0' is not a positive number"),
        (["--csv", "{csv}", "--delay", "soon"], "'soon' is not a positive number"),
        (["--csv", "{csv}", "--max-records", "0"], "'0' is not a positive whole number"),
        (["--csv", "{csv}", "--start", "2005-02-05T03:30"], "not on the hour"),
        (["--csv", "{csv}", "--station-id", ""], "a station needs a name"),
    ],
)
def test_wrong_flags_are_usage_errors(
    csv_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        producer.main([argument.format(csv=csv_path) for argument in arguments])
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("a,b\n1,2\n", "found:    a, b"),
        (",".join(("DateTime", *RAW_COLUMNS)) + "\n", "a header but no rows"),
        (",".join(("DateTime", *RAW_COLUMNS)) + "\n2005-02-05T03:00:00" + ",x" * 13, "line 2, column CO(GT)"),
    ],
)
def test_wrong_files_are_usage_errors(
    tmp_path: Path, text: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    if text is not None:
        path.write_text(text)
    assert producer.main(["--csv", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


@pytest.mark.parametrize(("hours", "found"), [(24, "9 of 9 steps are 24 h"), (3, "9 of 9 steps are 3 h")])
def test_a_file_that_is_not_hourly_is_refused_before_anything_is_sent(
    tmp_path: Path, hours: int, found: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_io, "idempotent_producer", lambda settings: pytest.fail("it connected"))
    dataset.write_stream_csv(frame_of([FIRST + hours * k for k in range(10)]), tmp_path / "rows.csv")
    assert producer.main(["--csv", str(tmp_path / "rows.csv")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert found in err
    assert "--any-step" in err


@pytest.mark.slow
def test_a_file_that_is_not_hourly_is_sent_with_a_warning_if_it_is_meant(tmp_path: Path) -> None:
    dataset.write_stream_csv(frame_of([FIRST + 24 * k for k in range(3)]), tmp_path / "rows.csv")
    with on_mock("--csv", str(tmp_path / "rows.csv"), "--any-step", "--station-id", "roof") as process:
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "2 of 2 steps are 24 h" in err
    assert out.endswith("3 rows acknowledged by air_quality.raw\n")


def test_dry_run_says_what_was_understood_and_connects_to_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_io, "idempotent_producer", lambda settings: pytest.fail("it connected"))
    monkeypatch.setattr(kafka_io, "ensure_topics", lambda settings: pytest.fail("it connected"))
    path = tmp_path / "rows.csv"
    path.write_text(data_files.published())
    assert producer.main(["--csv", str(path), "--dry-run"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"{path}: 500 hourly rows 2004-03-10 to 2004-03-31, 13 of 13 columns, ")
    assert out[-1] == "nothing was sent (--dry-run)"


def test_a_file_nobody_labelled_asks_whose_readings_it_holds(
    csv_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_io, "ensure_topics", lambda settings: pytest.fail("it connected"))
    assert producer.main(["--csv", str(csv_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "is not labelled by create_dataset.py: say --station-id NAME" in err


@pytest.mark.slow
def test_the_program_starts_from_any_directory_and_explains_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "producer.py"), "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "exit status" in done.stdout


@pytest.mark.slow
def test_an_unreachable_broker_fails_in_bounded_time_with_its_address(csv_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, str(ROOT / "producer.py"), "--csv", str(csv_path), "--station-id", "roof"]
    command += ["--bootstrap-servers", address]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert address in done.stderr
    assert "Traceback" not in done.stderr


# librdkafka's mock cluster makes topics by itself and cannot be asked to.
ON_MOCK = """
import sys
from airquality.stream import kafka_io
kafka_io.ensure_topics = lambda settings, roles: None
import producer
sys.exit(producer.main(sys.argv[1:]))
"""


@contextmanager
def on_mock(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with MockBroker("test") as broker:
        process = subprocess.Popen(
            [sys.executable, "-c", ON_MOCK, *arguments],
            cwd=ROOT,
            env=clean_environment() | {"KAFKA_API_VERSION": "2.3", "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


@pytest.mark.slow
def test_rows_reach_a_broker_and_are_shown(csv_path: Path) -> None:
    flags = ["--station-id", "roof", "--delay", "0.1", "--loop", "--max-records", "4", "--topic", "raw.test"]
    with on_mock("--csv", str(csv_path), *flags) as process:
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    servers = out.splitlines()[1].split()[3].rstrip(";")
    assert out.splitlines() == [
        f"{csv_path}: 3 rows of station roof, data source: unlabelled",
        f"to raw.test at {servers}; Ctrl-C stops it, and what was sent stays",
        *(f"Sent row {k}/3 to raw.test" for k in (1, 2, 3)),
        "Sent row 1/3 to raw.test (pass 2)",
        "4 rows acknowledged by raw.test",
    ]


@pytest.mark.slow
def test_simulated_rows_are_loud_and_a_station_of_their_own(tmp_path: Path) -> None:
    frame = dataset.simulate().rows(0, 150)
    dataset.write_stream_csv(frame, tmp_path / "rows.csv")
    dataset.write_label(tmp_path, frame, ["rows.csv"])
    with on_mock("--csv", str(tmp_path / "rows.csv")) as process:
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    first, _, *middle, last = out.splitlines()
    assert "150 rows of station simulated-360, data source: simulated *** SIMULATED DATA" in first
    assert middle == [f"Sent row {k}/150 to air_quality.raw" for k in (100, 150)]
    assert last.startswith("150 rows acknowledged by air_quality.raw *** SIMULATED DATA")


@pytest.mark.slow
def test_sigterm_ends_a_slow_replay_at_once_and_in_order(csv_path: Path) -> None:
    with on_mock("--csv", str(csv_path), "--rate", "0.01", "--station-id", "roof") as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(3)][2] == "Sent row 1/3 to air_quality.raw\n"
        process.terminate()
        out, _ = process.communicate(timeout=20)
    assert out == "Stopped by SIGTERM: 1 rows acknowledged by air_quality.raw\n"
    assert process.returncode == 0


class RefusingClient:
    """A client that refuses a record before it has a future for it, as Kafka's does without metadata."""

    def send(self, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> object:
        raise RuntimeError(f"no metadata of {topic}")


def test_a_record_refused_at_once_is_a_row_not_acknowledged() -> None:
    with pytest.raises(Unavailable, match=r"row 1 .*no metadata of raw\.test"):
        sending.replay(
            rows_of(2), sending.sender(RefusingClient(), Settings(raw_topic="raw.test")), at_once(), never, lambda _: None
        )


@pytest.mark.broker
def test_a_real_broker_holds_every_row_in_order(tmp_path: Path, broker: Broker) -> None:
    frame = dataset.split(dataset.simulate()).test
    dataset.write_stream_csv(frame, tmp_path / "rows.csv")
    servers = ["--station-id", "roof", "--bootstrap-servers", broker.bootstrap_servers]
    command = [sys.executable, str(ROOT / "producer.py"), "--csv", str(tmp_path / "rows.csv"), "--topic", "raw.replay"]
    done = subprocess.run(
        [*command, *servers], env=clean_environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Sent row 1404/1404 to raw.replay\n1,404 rows acknowledged by raw.replay\n")
    settings = Settings(kafka_bootstrap_servers=broker.bootstrap_servers, raw_topic="raw.replay")
    records = [record for part in range(3) for record in kafka_io.read(settings, "raw.replay", part)]
    rows = [parse_reading(record.key, record.value) for record in records]
    assert [row.hour for row in rows] == frame.hours.tolist()
    np.testing.assert_array_equal(np.array([row.values for row in rows]), frame.values)


# --- late truths ---


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
