"""Restarts on a real broker after somebody changed what Kafka holds: the worker's own loop, a checksum for a service."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, OffsetAndMetadata, TopicPartition
from prometheus_client import CollectorRegistry

from airquality.ground.errors import ContractError, Refused, Unavailable
from airquality.ground.settings import Settings
from airquality.metrics import ConsumerMetrics
from airquality.records import Prediction
from airquality.stream import dlq, kafka_io
from airquality.stream.account import Counts, Note
from airquality.stream.alone import alone
from airquality.stream.console import Console
from airquality.stream.homes import Homes
from airquality.stream.kafka_io import Record
from airquality.stream.limits import Limits
from airquality.stream.partition import PartitionState
from airquality.stream.reader import KafkaReader
from airquality.stream.repartition import repartition
from airquality.stream.transactions import TransactionalStream
from airquality.stream.worker import Worker
from lab.waiting import wait_until
from tests.simulated_kafka import Monitors, reading
from tests.worker_rig import START, Service

pytestmark = pytest.mark.broker

STATIONS = (0, 1)


class Killed(Worker):
    """A worker that leaves as a kill -9 does: no snapshot, no report awaited."""

    def _finish(self) -> None:
        pass


class Run:
    """One run of a worker on the real broker; ``killed`` by its end, or run to it."""

    def __init__(self, settings: Settings, *, killed: bool = False, **limits: float) -> None:
        self.monitors, self.registry, self.lines = Monitors(), CollectorRegistry(), list[str]()
        given: dict[str, Any] = {"idle_exit_seconds": 1.5, "timeout_seconds": 240.0, **limits}
        with closing(TransactionalStream(settings)) as stream:
            metrics = ConsumerMetrics(self.registry)
            console, reader = Console(self.lines.append), KafkaReader(settings)
            kind = Killed if killed else Worker
            worker = kind(settings, stream, reader, Service(), self.monitors, metrics, console, Limits(**given))
            worker.run()
            self.counts = worker.counts


def send(
    settings: Settings, first: int, last: int, partition: int | None = None, stations: Iterable[int] = STATIONS
) -> None:
    """Send those hours of the stations, each to a partition of its own, or all to the one given."""
    with closing(kafka_io.idempotent_producer(settings)) as producer:
        for hour in range(START + first, START + last):
            for station in stations:
                sent, where = reading(station, hour), station if partition is None else partition
                producer.send(settings.raw_topic, key=sent.station_id.encode(), value=sent.to_bytes(), partition=where)
        producer.flush()


def published(settings: Settings) -> dict[tuple[str, int], float]:
    """Return the committed predictions by station and hour; fail where one was published twice."""
    found: dict[tuple[str, int], float] = {}
    for partition in kafka_io.partitions(settings, settings.pred_topic):
        for record in kafka_io.read(settings, settings.pred_topic, partition):
            prediction = Prediction.from_bytes(record.value or b"")
            assert (prediction.station_id, prediction.hour) not in found, "an hour was published twice"
            found[prediction.station_id, prediction.hour] = prediction.prediction
    return found


def undisturbed(last: int) -> dict[tuple[str, int], float]:
    """Return what must be published of that many hours."""
    found: dict[tuple[str, int], float] = {}
    for station in STATIONS:
        monitors = Monitors()
        state = PartitionState(0, Note(), monitors.open_station, monitors, lambda: 0.0, Homes())
        rows = [reading(station, START + hour) for hour in range(last)]
        records = [Record(0, offset, None, row.to_bytes()) for offset, row in enumerate(rows)]
        batch = state.apply(records, Service())
        found |= {(p.station_id, p.hour): p.prediction for p in batch.predictions}
    return found


@pytest.fixture
def admin(settings: Settings) -> Iterable[KafkaAdminClient]:
    with closing(KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)) as made:
        yield made


def delete_group(settings: Settings, admin: KafkaAdminClient) -> None:
    gone = lambda: admin.delete_groups([settings.consumer_group])[settings.consumer_group] == "OK"  # noqa: E731
    wait_until(gone, "the group is empty and deleted")


def recreate(settings: Settings, admin: KafkaAdminClient, topic: str) -> None:
    before = kafka_io.topics_now(settings)
    admin.delete_topics([topic])

    def recreated() -> bool:
        kafka_io.ensure_topics(settings)
        return kafka_io.topics_now(settings) != before

    wait_until(recreated, f"{topic} is another")


def set_offsets(settings: Settings, admin: KafkaAdminClient, offset: int) -> None:
    """Set the group's offsets as an operator's tool does: without our note."""
    every = {TopicPartition(settings.raw_topic, p): OffsetAndMetadata(offset, "", -1) for p in range(2)}
    wait_until(lambda: settable(settings, admin), "the group is empty")
    admin.alter_group_offsets(settings.consumer_group, every)


def settable(settings: Settings, admin: KafkaAdminClient) -> bool:
    group = admin.describe_groups([settings.consumer_group])[settings.consumer_group]
    return not group["members"]


def test_restore_group_deleted_after_a_kill_repeats_no_hour(settings: Settings, admin: KafkaAdminClient) -> None:
    send(settings, 0, 200)
    Run(settings, killed=True)
    delete_group(settings, admin)
    send(settings, 200, 210)
    run = Run(settings)
    assert run.counts == Counts(rows_in=420, warmup=336, predictions=84)
    assert published(settings) == undisturbed(210)


@pytest.mark.parametrize("where", [0, 90, 205])
@pytest.mark.parametrize("killed", [True, False])
def test_restore_offsets_set_by_a_tool_repeats_and_forgets_nothing(
    settings: Settings, admin: KafkaAdminClient, where: int, killed: bool
) -> None:
    send(settings, 0, 200)
    Run(settings, killed=killed)
    send(settings, 200, 210)
    set_offsets(settings, admin, where)
    run = Run(settings)
    assert run.counts == Counts(rows_in=420, warmup=336, predictions=84)
    assert published(settings) == undisturbed(210)


def test_restore_rows_deleted_unread_is_refused_and_counted_where_accepted(
    settings: Settings, admin: KafkaAdminClient
) -> None:
    send(settings, 0, 200)
    Run(settings)
    send(settings, 200, 300)
    admin.delete_records({TopicPartition(settings.raw_topic, 0): 260})
    with pytest.raises(Refused, match=r"partition 0 begins at offset 260, but the group is at 200: 60 rows that were never"):
        Run(settings)
    run = Run(settings, accept_loss=True)
    assert run.counts.rows_lost == 60
    assert run.counts.rows_in == 540
    assert run.registry.get_sample_value("air_quality_lost_rows_total") == 60
    assert run.monitors.summaries[-1]["rows_lost"] == 60
    again = Run(settings)  # accepted once, not again
    assert (again.counts.rows_lost, again.registry.get_sample_value("air_quality_lost_rows_total")) == (60, 0)


def test_restore_raw_topic_recreated_is_refused_and_goes_on_where_accepted(
    settings: Settings, admin: KafkaAdminClient
) -> None:
    send(settings, 0, 200)
    Run(settings)
    recreate(settings, admin, settings.raw_topic)
    send(settings, 200, 230)
    with pytest.raises(Refused, match=f"{settings.raw_topic} was deleted and created anew"):
        Run(settings)
    Run(settings, accept_loss=True, killed=True)
    send(settings, 230, 240)
    Run(settings)
    assert published(settings) == undisturbed(240)  # nothing was lost between the two topics


def test_restore_state_topic_recreated_is_rebuilt(settings: Settings, admin: KafkaAdminClient) -> None:
    send(settings, 0, 200)
    Run(settings)
    recreate(settings, admin, settings.state_topic)
    send(settings, 200, 210)
    run = Run(settings)
    assert run.counts == Counts(rows_in=420, warmup=336, predictions=84)
    assert published(settings) == undisturbed(210)


def test_restore_dead_letter_topic_recreated_is_said_and_rows_go_on(
    settings: Settings, admin: KafkaAdminClient, caplog: pytest.LogCaptureFixture
) -> None:
    send(settings, 0, 200)
    Run(settings, killed=True)  # the rows since the last snapshots are replayed beside the dead letters of another topic
    recreate(settings, admin, settings.dlq_topic)
    send(settings, 195, 210)
    run = Run(settings)
    assert run.counts == Counts(rows_in=430, warmup=336, predictions=84, duplicates=10)
    assert published(settings) == undisturbed(210)
    said = [record.getMessage() for record in caplog.records if "created anew" in record.getMessage()]
    assert len(said) == 2  # a partition each
    assert all(text.startswith(f"{settings.dlq_topic} was deleted and created anew") for text in said)


def test_restore_prediction_topic_recreated_is_refused_and_goes_on_where_accepted(
    settings: Settings, admin: KafkaAdminClient
) -> None:
    send(settings, 0, 200)
    Run(settings, killed=True)
    recreate(settings, admin, settings.pred_topic)
    send(settings, 200, 210)
    with pytest.raises(Refused, match=f"{settings.pred_topic} was deleted and created anew: the 32 predictions"):
        Run(settings)
    Run(settings, accept_loss=True)
    expected = undisturbed(210)
    assert published(settings) == {hour: expected[hour] for hour in expected if hour[1] >= START + 200}


def test_restore_foreign_records_everywhere_are_passed_over(settings: Settings) -> None:
    send(settings, 0, 200)
    Run(settings)
    with closing(KafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers)) as producer:
        for topic in (settings.state_topic, settings.pred_topic, settings.dlq_topic):
            for value in (b"", b"{}", b"\xff\xfe", b"[1]", b'"x"'):
                producer.send(topic, key=b"station_0", value=value, partition=0)
                producer.send(topic, value=value, partition=0)
        producer.flush()
    send(settings, 200, 210)
    run = Run(settings)
    assert run.counts.predictions == 84


def test_restore_tombstone_forgets_the_station(settings: Settings) -> None:
    send(settings, 0, 200)
    Run(settings)
    with closing(KafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers)) as producer:
        producer.send(settings.state_topic, key=b"station_0", value=None, partition=0)
    send(settings, 200, 210)
    run = Run(settings)
    assert run.counts == Counts(rows_in=420, warmup=346, predictions=74)
    assert Run(settings).counts == run.counts


def test_poll_overtaken_by_retention_starts_over_and_is_refused(settings: Settings, admin: KafkaAdminClient) -> None:
    send(settings, 0, 20)
    Run(settings)
    send(settings, 20, 40)
    with closing(TransactionalStream(settings)) as stream:
        polled = stream.poll(0.5, 1)

        def assigned() -> bool:
            polled = stream.poll(0.5, 1)
            return bool(polled.ownership.partitions)

        wait_until(lambda: bool(polled.ownership.partitions) or assigned(), "partitions are assigned")
        admin.delete_records({TopicPartition(settings.raw_topic, 0): 40})
        stream.start(0, 20)

        def gap_reported() -> bool:
            try:
                stream.poll(0.5, 100)
            except Unavailable as error:
                return "OffsetOutOfRange" in str(error)
            return False

        wait_until(gap_reported, "the stream says that the rows are gone")
    with pytest.raises(Refused, match="20 rows that were never read"):
        Run(settings)


def test_repartition_moves_stations_with_their_history(settings: Settings, admin: KafkaAdminClient) -> None:
    send(settings, 0, 200)
    Run(settings)
    admin.create_partitions(dict.fromkeys(kafka_io.topic_names(settings).values(), 3))
    kafka_io.await_partitions(settings, settings.raw_topic, 3)
    with closing(kafka_io.idempotent_producer(settings)) as producer:  # an hour sent again, and ten more, elsewhere
        for hour in range(START + 199, START + 210):
            for station in STATIONS:
                sent = reading(station, hour)
                producer.send(settings.raw_topic, key=sent.station_id.encode(), value=sent.to_bytes(), partition=2)
        producer.flush()
    with pytest.raises(Refused, match=r"3 partitions now, but the stations' state is that of 2.*repartition"):
        Run(settings)
    dry = repartition(settings, n_partitions=None, dry_run=True, accept_loss=False)
    assert dry.splitlines() == [
        "would move 2 of 2 stations over 3 partitions",
        "  station_0: 0 -> 2",
        "  station_1: 1 -> 2",
    ]
    done = repartition(settings, n_partitions=None, dry_run=False, accept_loss=False)
    assert done.startswith("moved 2 of 2 stations")
    run = Run(settings)
    assert run.counts == Counts(rows_in=422, warmup=336, predictions=84, duplicates=2)
    assert published(settings) == undisturbed(210)
    assert set(run.monitors.stations) == {"station_0", "station_1"}


def test_repartition_of_a_state_topic_made_anew_is_refused_and_one_that_was_killed_holds_nobody_up(
    settings: Settings, admin: KafkaAdminClient
) -> None:
    send(settings, 0, 180)
    Run(settings)

    def overtaken() -> None:
        with alone(settings, "repartition", 600_000) as run, run.transaction() as producer:
            producer.send(settings.state_topic, key=b"station_0", value=None, partition=0).get(timeout=20)
            done = repartition(settings, n_partitions=3, dry_run=False, accept_loss=False)
            assert "of 2 stations over 3 partitions" in done

    with pytest.raises(ContractError, match="another repartition"):
        overtaken()
    recreate(settings, admin, settings.state_topic)
    for dry_run in (True, False):
        with pytest.raises(ContractError, match=f"{settings.state_topic} was deleted and created anew"):
            repartition(settings, n_partitions=None, dry_run=dry_run, accept_loss=False)


def test_partitions_raised_over_waiting_rows_every_row_is_predicted_once(
    settings: Settings, admin: KafkaAdminClient
) -> None:
    send(settings, 0, 200)
    Run(settings)
    send(settings, 200, 210)
    admin.create_partitions(dict.fromkeys(kafka_io.topic_names(settings).values(), 3))
    kafka_io.await_partitions(settings, settings.raw_topic, 3)
    send(settings, 210, 220, partition=2)
    stay = repartition(settings, n_partitions=None, dry_run=False, accept_loss=False)
    assert stay.startswith("moved 0 of 2 stations")
    assert "2 stay for now" in stay
    assert "station_0, station_1" in stay
    assert Run(settings).counts.dead_letters == {"moved": 20}
    again = repartition(settings, n_partitions=None, dry_run=False, accept_loss=False)
    assert again.splitlines()[1:] == ["  station_0: 0 -> 2", "  station_1: 1 -> 2"]
    assert dlq.replay(settings, dlq.Filter(reason="moved")).sent == 20
    send(settings, 220, 225, partition=2)
    Run(settings)
    assert published(settings) == undisturbed(225)


def test_partitions_raised_with_unsaved_rows_are_saved_and_then_refused(settings: Settings, admin: KafkaAdminClient) -> None:
    send(settings, 0, 200)
    Run(settings, killed=True)
    admin.create_partitions({settings.raw_topic: 3})
    with pytest.raises(ContractError, match="no snapshot holds: start a consumer once"):
        repartition(settings, n_partitions=3, dry_run=False, accept_loss=False)
    with pytest.raises(Refused, match="repartition"):
        Run(settings)
    assert repartition(settings, n_partitions=4, dry_run=False, accept_loss=False).startswith("moved")
    assert Run(settings).counts == Counts(rows_in=400, warmup=336, predictions=64)


def test_partitions_raised_while_running_are_noticed_and_refused(settings: Settings, admin: KafkaAdminClient) -> None:
    send(settings, 0, 20)
    raised = threading.Timer(5.0, admin.create_partitions, [dict.fromkeys(kafka_io.topic_names(settings).values(), 3)])
    raised.start()
    with pytest.raises(Refused, match="3 partitions now"):
        Run(settings, idle_exit_seconds=50.0)
    raised.join()
    assert len(list(kafka_io.read(settings, settings.state_topic, 0))) == 1  # what it had was saved first


def test_raw_topic_recreated_while_running_starts_over(
    settings: Settings, admin: KafkaAdminClient, caplog: pytest.LogCaptureFixture
) -> None:
    send(settings, 0, 200)
    Run(settings)
    caplog.set_level("INFO", logger="consumer")

    def recreate_once_both_are_restored() -> None:
        wait_until(lambda: sum(": restored " in message for message in caplog.messages) == 2, "two partitions")
        recreate(settings, admin, settings.raw_topic)

    again = threading.Thread(target=recreate_once_both_are_restored)
    again.start()
    with pytest.raises(Unavailable):
        Run(settings, idle_exit_seconds=50.0)
    again.join()
    with pytest.raises(Refused, match="created anew"):
        Run(settings)
