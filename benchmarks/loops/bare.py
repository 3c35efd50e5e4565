"""What Kafka's client allows at best: every record comes in and goes out in the same transactions, with no work between."""

from __future__ import annotations

import json
import sys
import uuid
from contextlib import closing
from typing import Any

from kafka import OffsetAndMetadata

from airquality.ground.program import stop_on_signals
from airquality.ground.settings import read_settings
from airquality.stream import kafka_io
from benchmarks.clock import Clock

_POLL_MS = 250


def main(task: dict[str, Any]) -> None:
    """Echo the raw topic into the prediction topic until ``n_rows`` are committed, or a signal comes."""
    settings, group = read_settings(), f"bare-{uuid.uuid4()}"
    going = [True]
    stop_on_signals(going.clear)
    clock = Clock(settings.raw_topic, settings.pred_topic, task.get("n_rows"), going.clear)
    clock.install()
    consumer = kafka_io.open_consumer(
        settings,
        group_id=group,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_poll_records=settings.max_poll_records,
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    producer = kafka_io.open_producer(settings, transactional_id=group, linger_ms=1, batch_size=256 * 1024)
    with closing(consumer), closing(producer):
        producer.init_transactions()
        consumer.subscribe([settings.raw_topic])
        while going:
            polled = consumer.poll(timeout_ms=_POLL_MS)
            if not polled:
                continue
            producer.begin_transaction()
            for records in polled.values():
                for record in records:
                    producer.send(settings.pred_topic, value=record.value, key=record.key, partition=record.partition)
            offsets = {tp: OffsetAndMetadata(records[-1].offset + 1, "", -1) for tp, records in polled.items()}
            producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
            producer.commit_transaction()
    print(json.dumps(clock.report()), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
