"""What `make run` needs of the mock cluster where no real broker can be had: topics, transactions, reading back."""

from __future__ import annotations

from contextlib import closing

from airquality.ground.settings import Settings
from airquality.stream import kafka_io
from airquality.stream.transactions import Message, Position, TransactionalStream
from lab import embedded_kafka
from tests.broker_topics import owned


def test_what_two_transactions_wrote_is_read_back_whole() -> None:
    with embedded_kafka.start(prefer="mock", say=lambda _: None) as broker:
        settings = Settings(kafka_bootstrap_servers=broker.bootstrap_servers, kafka_api_version=broker.api_version)
        kafka_io.ensure_topics(settings)
        values = [b"%d" % number for number in range(90)]
        with closing(TransactionalStream(settings)) as stream:
            ownership = owned(stream, 4)
            for part in (values[:60], values[60:]):
                stream.commit(
                    [Message(settings.pred_topic, 0, b"roof", value) for value in part], {0: Position(1, "")}, ownership
                )
        assert [record.value for record in kafka_io.read(settings, settings.pred_topic, 0)] == values
