"""``python -m airquality alarms``: an operator's record goes where its station lives, and says by whom."""

from __future__ import annotations

from contextlib import closing

import pytest

from airquality.events import AlarmEvent, OperationTaken
from airquality.ground.settings import Settings
from airquality.incoming import Operation, parse_record
from airquality.monitoring.alarms import Event
from airquality.records import isoformat
from airquality.stream import alarms_command, kafka_io
from tests.simulated_kafka import reading

HOUR = 307_668


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("raw", "pred", "events"):
        monkeypatch.setenv(f"{name.upper()}_TOPIC", getattr(settings, f"{name}_topic"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", settings.kafka_bootstrap_servers)


@pytest.mark.broker
@pytest.mark.usefixtures("run")
def test_alarms_commands_write_to_the_partition_of_the_station_and_list_what_is_open(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    station = reading(0, HOUR).station_id
    alarm = Event("opened", "level", "T", HOUR, HOUR - 5, 2.5, "degC")
    planned = OperationTaken(Operation(station, "maintenance", "RH", HOUR, HOUR + 8, "bob"), HOUR, 0)
    with closing(kafka_io.idempotent_producer(settings)) as producer:
        for index in (0, 1):  # whatever partitioner its producers have: one of them keyless
            producer.send(settings.raw_topic, key=None, value=reading(index, HOUR).to_bytes(), partition=index).get(20)
        for finding in (AlarmEvent(station, alarm), planned):
            producer.send(settings.events_topic, key=station.encode(), value=finding.to_bytes(), partition=0).get(20)
    assert alarms_command.main(["list"]) == 3
    out = capsys.readouterr().out
    assert "Alarm opened: T, level" in out
    assert f"Maintenance of RH from {isoformat(HOUR)}" in out
    assert alarms_command.main(["list", "--station", "elsewhere"]) == 0
    assert capsys.readouterr().out == "no alarm is open, and nothing at all is known of a station 'elsewhere'\n"
    for index in (0, 1):
        name = reading(index, HOUR).station_id
        assert alarms_command.main(["ack", "--station", name, "--column", "T", "--by", "ann"]) == 0
        (record,) = [r for r in kafka_io.read(settings, settings.raw_topic, index) if r.headers]
        assert record.key == name.encode()
        assert parse_record(record.key, record.value, record.headers) == Operation(name, "ack", "T", who="ann")
    assert capsys.readouterr().out.count("no alarm of T is open") == 1, "of the second station"
    assert alarms_command.main(["reset", "--station", "nowhere", "--column", "S1"]) == 2
    assert "holds no row of a station 'nowhere'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("reset --station a", "--column"),
        ("ack --station a --column S9", "no column with alarms"),
        ("maintenance --station a --from 2005-03-01T08:00", "--to"),
        ("maintenance --station a --from 2005-03-01T08:30 --to 2005-03-01T09:00", "no hour such as"),
        ("ack --station a --by " + "x" * 101, "at most 100 characters"),
    ],
)
def test_alarms_wrong_usage_exits_2_and_says_what(arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        alarms_command.main(arguments.split())
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("odd", ["--station", "--by", "--note"])
def test_alarms_argument_that_is_no_text_exits_2(odd: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert alarms_command.main(["ack", "--station", "a", "--by", "ann", odd, "\udcff"]) == 2
    assert "surrogates not allowed" in capsys.readouterr().err


def test_alarms_span_that_ends_before_it_begins_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "maintenance --station a --from 2005-03-02T08:00 --to 2005-03-01T08:00"
    assert alarms_command.main(arguments.split()) == 2
    assert "is later than" in capsys.readouterr().err
