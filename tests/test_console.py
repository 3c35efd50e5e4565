"""What a person reads: the lines of a worker whose Kafka is simulated."""

from __future__ import annotations

import dataclasses
import re
from functools import partial

import pytest

from airquality.events import AlarmEvent, WindowJudged, finding_of
from airquality.monitoring.alarms import Event
from airquality.records import isoformat
from airquality.reports.due import ReportResult
from airquality.stream.account import Counts
from airquality.stream.console import LIVE_RECORDS, SIGN_OF_LIFE_SECONDS, Console
from tests.simulated_kafka import reading
from tests.worker_rig import RAW, SETTINGS, START, Rig


def run_lines(rig: Rig, **limits: float) -> list[str]:
    rig.lines.clear()
    rig.restart(None, **limits)
    rig.worker.run()
    return list(rig.lines)


def queued(lines: list[str]) -> list[str]:
    """What the prediction lines say of reports."""
    return [line.partition(" | ")[2] for line in lines if line.startswith("Prediction ")]


def test_live_rows_have_a_line_each(rig: Rig) -> None:
    for hour in range(193):
        rig.clock.at.append((rig.clock() + 1.0 + hour, partial(rig.send, hour, 1)))
    lines = run_lines(rig)
    warmup = [f"Waiting for warmup... ({row}/168 rows) [station_0]" for row in range(1, 169)]
    assert lines[:168] == warmup
    assert lines[168] == "Warmup complete! Starting inference... [station_0]"
    values = [f"{prediction.prediction:.2f}" for prediction in rig.predictions()]
    assert lines[169:192] == [f"Prediction {n}: CO(GT) = {values[n - 1]} [station_0]" for n in range(1, 24)]
    assert lines[192] == f"Prediction 24: CO(GT) = {values[23]} | Daily report queued [station_0]"
    assert f"Prediction 25: CO(GT) = {values[24]} [station_0]" in lines[193:]


def test_catching_up_shows_every_hundredth_and_every_report(rig: Rig) -> None:
    rig.send(0, 168 + 168)
    lines = run_lines(rig)
    shown = [int(match[1]) for line in lines if (match := re.match(r"Prediction (\d+):", line))]
    assert shown == sorted({100, *range(24, 169, 24)})
    assert any(line.endswith("| Daily report queued | Weekly report queued [station_0]") for line in lines)
    assert "Waiting for warmup... (100/168 rows) [station_0]" in lines
    assert lines.count("Warmup complete! Starting inference... [station_0]") == 1


def test_the_count_goes_on_after_a_restart(rig: Rig) -> None:
    rig.send(0, 170)
    run_lines(rig)
    rig.send(170, 1)
    assert [line.split(":")[0] for line in run_lines(rig)] == ["Prediction 3"]


def test_a_report_is_announced_by_the_row_that_closed_its_window(rig: Rig) -> None:
    rig.send(0, 168 + 23)
    rig.send(100, 168 + 20, station=1)  # its hours overlap, its windows do not
    run_lines(rig)
    rig.send(168 + 26, 1)  # after a gap: the day ended three hours ago
    rig.send(100 + 168 + 20, 1, station=1)
    assert queued(run_lines(rig)) == ["Daily report queued [station_0]", ""]


def test_a_report_is_announced_by_its_own_station(rig: Rig) -> None:
    rig.send(20, 168 + 2)
    rig.send(0, 168 + 23, station=1)
    run_lines(rig)
    rig.send(200, 1)
    rig.send(191, 1, station=1)
    assert queued(run_lines(rig)) == ["", "Daily report queued [station_1]"]


def test_show_file_sent_again_is_a_line_now_and_then(rig: Rig) -> None:
    rig.send(0, 200)
    run_lines(rig)
    for hour in range(200):  # an hour each quarter of a second, as a slow producer sends them
        rig.clock.at.append((rig.clock() + 1.0 + hour / 4, partial(rig.send, hour, 1)))
    lines = [line for line in run_lines(rig) if "already predicted" in line]
    assert 2 <= len(lines) <= 2 + 50 / SIGN_OF_LIFE_SECONDS
    assert lines[-1].startswith(f"station_0: already predicted up to {isoformat(START + 199)}; ")
    assert sum(int(line.split("; ")[1].split()[0]) for line in lines) == rig.worker.counts.duplicates == 200


def test_show_life_a_quiet_consumer_says_that_it_lives(rig: Rig) -> None:
    rig.send(0, 3)
    lines = run_lines(rig, idle_exit_seconds=45.0)
    signs = [line for line in lines if "rows wait in Kafka" in line]
    assert 3 <= len(signs) <= 5
    assert signs[0].startswith("3 rows in = 3 warm-up + 0 predictions")
    assert "0 rows wait in Kafka, 0 reports to be made" in signs[0]


def test_show_life_without_partitions_claims_nothing_of_rows() -> None:
    lines, now = list[str](), [0.0]
    console = Console(lines.append, lambda: now[0])
    now[0] = SIGN_OF_LIFE_SECONDS
    console.show_life(Counts(), 0, 0, 0)
    console.show_life(Counts(), 0, 0, 0)
    assert lines == ["no partition is assigned to this consumer: its group rebalances, or the others have them all"]


def test_show_reports_says_where_each_was_written(rig: Rig) -> None:
    rig.send(0, 168 + 24)
    day = f"Daily report up to {isoformat(START + 191)} written: reports/daily.html [station_0]"
    assert day in run_lines(rig)


def test_show_reports_failed_report_says_why() -> None:
    lines: list[str] = []
    Console(lines.append).show_reports([ReportResult("roof", "daily", START, "failed", error="disk full")])
    assert lines == [f"Daily report up to {isoformat(START)} failed: disk full; it is made again later [roof]"]


def test_show_verdict_window_that_is_not_as_usual_says_what(rig: Rig) -> None:
    rig.send(0, 168 + 24)
    [line] = [line for line in run_lines(rig) if "is not as usual" in line]
    window = rig.monitors.made[0]
    assert line.startswith(f"Daily window up to {isoformat(window[2])} is not as usual: ")
    assert line.endswith(" [station_0]")
    assert "drift in" in line


def test_show_verdicts_that_go_on_are_said_when_they_open_and_when_they_close(rig: Rig) -> None:
    rig.send(0, 168 + 24 * 6)
    lines = run_lines(rig)
    findings = [finding_of(record.value) for record in rig.kafka.log(SETTINGS.events_topic)]
    alarms = [each.event for each in findings if isinstance(each, AlarmEvent)]
    windows = [each for each in findings if isinstance(each, WindowJudged) and each.raised]
    opened = {event.at for event in alarms if event.kind == "opened"}
    assert len(windows) > len(opened) > 0  # the made-up predictions are wrong every day
    assert len([line for line in lines if "is not as usual" in line]) == len(opened)
    assert not [line for line in lines if line.startswith("Alarm opened: data_drift")]
    assert len([line for line in lines if line.startswith("Alarm closed")]) == len(alarms) - len(opened_events(alarms))


def opened_events(alarms: list[Event]) -> list[Event]:
    return [event for event in alarms if event.kind == "opened"]


def test_show_end_unfinished_reports_are_said(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.send(0, 168 + 24)
    rig.restart()
    monkeypatch.setattr(rig.monitors, "poll", list)
    rig.clock.at = [(rig.clock() + 3.0, lambda: setattr(rig.limits, "stopped", True))]
    rig.worker.run()
    assert rig.lines[-1] == "1 reports will be made at the next start"


def test_show_control_characters_never_reach_the_terminal(rig: Rig) -> None:
    odd = dataclasses.replace(reading(0, START), station_id="roof\x1b[2J\r\n\u202eforged")
    for _ in range(2):
        rig.kafka.append(RAW, 0, odd.station_id.encode(), odd.to_bytes())
    lines = run_lines(rig)
    assert len(lines) >= 2
    assert all(line.isprintable() for line in lines)


def test_show_many_dead_letters_of_a_batch_are_summed_up(rig: Rig) -> None:
    for _ in range(90):
        rig.kafka.append(RAW, 0, None, b"{")
    lines = run_lines(rig)
    assert len(lines) == LIVE_RECORDS + 1
    assert lines[-1].startswith("... and 80 more dead letters")


def test_a_dead_letter_has_a_line_with_its_reason_and_place(rig: Rig) -> None:
    rig.kafka.append(RAW, 0, None, b"{")
    [line] = run_lines(rig)
    assert line.startswith("Dead letter (malformed) at offset 0: not JSON")
