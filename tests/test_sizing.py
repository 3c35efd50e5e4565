"""The page about large fleets: its tables are what the measured figures give, and the arithmetic is what the page says."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks import sizing
from benchmarks.footprint import FIGURES, PARTS, Usage, main
from benchmarks.sizing import PAGE, Plan, Station, filled, limits

#: Of a station whose figures are round: half a megabyte, a tenth of a second to restore, a second of CPU a day.
ROUND = Station(
    written_bytes_a_day=1e6,
    state_bytes_a_day=0.9e6,
    held_bytes=1e7,
    memory_bytes=4e5,
    restart_seconds=0.01,
    cpu_seconds_a_day=0.5,
    report_cpu_seconds_a_day=1.0,
    report_bytes_a_day=1e6,
)


def test_the_tables_of_the_page_are_what_the_figures_give() -> None:
    assert filled(PAGE.read_text(), json.loads(FIGURES.read_text())) == PAGE.read_text(), "run: python -m benchmarks.sizing"


def test_figures_that_change_show_on_the_page() -> None:
    figures = json.loads(FIGURES.read_text())
    figures["live: state, bytes a row"] *= 10
    assert filled(PAGE.read_text(), figures) != PAGE.read_text()


def test_a_page_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the table sizing"):
        filled("# Nothing\n", json.loads(FIGURES.read_text()))


def test_plan_of_a_fleet_is_the_arithmetic_of_the_page() -> None:
    plan = Plan.of(100_000, ROUND)
    assert plan.consumers == math.ceil(100_000 * 4e5 / 1.2e9)  # memory is dearest: 3,000 stations a consumer
    assert plan.partitions == 2 * plan.consumers
    assert plan.brokers == 3
    assert plan.apis == 2
    slow = replace(ROUND, restart_seconds=0.05)
    assert Plan.of(100_000, slow).consumers == 100  # 50 s / 0.05 s = 1,000 stations a consumer
    assert Plan.of(100_000, replace(ROUND, report_cpu_seconds_a_day=43.2)).consumers == 100  # half a core is 43,200 s a day


def test_brokers_of_a_plan_follow_bytes_written_bytes_held_and_partitions() -> None:
    assert Plan.of(10_000_000, ROUND).brokers == math.ceil(3 * 1e7 * 1e7 / 4e12)  # held
    light = Station(*[0.0] * 8)
    assert Plan.of(10_000_000, replace(light, written_bytes_a_day=86_400e1)).brokers == 10  # 3 x 100 MB/s at 30 MB/s
    many = replace(ROUND, held_bytes=0, written_bytes_a_day=0, memory_bytes=1.2e6)
    plan = Plan.of(10_000_000, many)
    assert plan.partitions == 20_000
    assert plan.brokers == 3 * 5 * 20_000 // 4_000


def test_a_single_station_is_what_the_compose_file_starts_and_a_small_fleet_can_lose_one_of_each() -> None:
    assert Plan.of(1, ROUND) == Plan(1, 1, 3, 1, 1)
    assert Plan.of(1_000, ROUND) == Plan(1_000, 2, 6, 3, 2)


def test_what_breaks_first_is_the_first_limit_between_two_sizes() -> None:
    assert [limit.stations for limit in limits(ROUND)] == sorted(limit.stations for limit in limits(ROUND))
    assert Plan.of(1, ROUND).breaks_first(ROUND).startswith("nothing")
    assert Plan.of(1_000, ROUND).breaks_first(ROUND) == "nothing", "an index that lists the worst only is by design"
    assert "at 3,000: a consumer's stations fill" in Plan.of(100_000, ROUND).breaks_first(ROUND)
    assert "at 150,000: a group has 50 members" in Plan.of(10_000_000, ROUND).breaks_first(ROUND)


@pytest.mark.parametrize(
    ("number", "text"), [(999, "999 B"), (1_000, "1 KB"), (1.25e6, "1.25 MB"), (3.456e9, "3.46 GB"), (2e12, "2 TB")]
)
def test_bytes_are_said_in_their_unit(number: float, text: str) -> None:
    assert sizing._bytes(number) == text


def test_usage_of_a_process_grows_with_what_it_does() -> None:
    idle = "import sys; print('done', flush=True); sys.stdin.read()"
    busy = f"held = b'x' * 80_000_000; sum(i * i for i in range(3_000_000)); {idle}"
    found = []
    for program in (idle, busy):
        with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            found.append(Usage.of(process))
            process.communicate()
    assert found[1].cpu_seconds > found[0].cpu_seconds
    assert found[1].peak_bytes > found[0].peak_bytes + 70_000_000


def test_a_part_that_does_not_exist_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["nothing"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "there is no nothing" in said
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    assert all(part in printed for part in PARTS)
