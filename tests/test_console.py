"""What a person reads: the lines of a worker whose Kafka is simulated."""

from __future__ import annotations

import re

from airquality.records import isoformat
from tests.worker_rig import RAW, START, Rig


def run_lines(rig: Rig, **limits: float) -> list[str]:
    rig.lines.clear()
    rig.restart(**limits)
    rig.worker.run()
    return list(rig.lines)


def test_live_rows_have_a_line_each(rig: Rig) -> None:
    for hour in range(193):
        rig.clock.at.append((rig.clock() + 1.0 + hour, lambda hour=hour: rig.send(hour, 1)))
    lines = run_lines(rig)
    warmup = [f"Waiting for warmup... ({row}/168 rows)" for row in range(1, 169)]
    assert lines[:168] == warmup
    assert lines[168] == "Warmup complete! Starting inference..."
    values = [f"{prediction.prediction:.2f}" for prediction in rig.predictions()]
    assert lines[169:192] == [f"Prediction {n}: CO(GT) = {values[n - 1]}" for n in range(1, 24)]
    assert lines[192] == f"Prediction 24: CO(GT) = {values[23]} | Daily report queued"
    assert lines[193:] == [f"Prediction 25: CO(GT) = {values[24]}"]


def test_catching_up_shows_every_hundredth_and_every_report(rig: Rig) -> None:
    rig.send(0, 168 + 168)
    lines = run_lines(rig)
    shown = [int(match[1]) for line in lines if (match := re.match(r"Prediction (\d+):", line))]
    assert shown == sorted({100, *range(24, 169, 24)})
    assert lines[-1].endswith("| Daily report queued | Weekly report queued")
    assert "Waiting for warmup... (100/168 rows)" in lines
    assert lines.count("Warmup complete! Starting inference...") == 1


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
    assert [line.partition(" | ")[2] for line in run_lines(rig)] == ["Daily report queued", ""]


def test_a_report_is_announced_by_its_own_station(rig: Rig) -> None:
    rig.send(20, 168 + 2)
    rig.send(0, 168 + 23, station=1)
    run_lines(rig)
    rig.send(200, 1)
    rig.send(191, 1, station=1)
    assert [line.partition(" | ")[2] for line in run_lines(rig)] == ["", "Daily report queued"]


def test_a_second_replay_says_so_and_is_counted(rig: Rig) -> None:
    rig.send(0, 180)
    run_lines(rig)
    rig.send(0, 180)
    lines = run_lines(rig)
    assert lines == [
        f"station_0: already predicted up to {isoformat(START + 99)}; 100 duplicates ignored",
        f"station_0: already predicted up to {isoformat(START + 179)}; 80 duplicates ignored",
    ]
    assert rig.worker.counts.duplicates == 180


def test_a_dead_letter_has_a_line_with_its_reason_and_place(rig: Rig) -> None:
    rig.kafka.append(RAW, 0, None, b"{")
    [line] = run_lines(rig)
    assert line.startswith("Dead letter (malformed) at offset 0: not JSON")
