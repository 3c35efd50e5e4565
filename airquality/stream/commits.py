"""What a transaction of the worker holds: what came of the batches, the snapshots that are due, and the offsets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from airquality.ground.settings import Settings
from airquality.stream.batch import Batch
from airquality.stream.checkpoint import Checkpoint
from airquality.stream.dead_letters import dead_letter
from airquality.stream.partition import PartitionState
from airquality.stream.ports import Stream
from airquality.stream.transactions import Message, Ownership, Position


class Commits:
    """Publishes what came of the owned partitions, all of it or nothing."""

    def __init__(self, settings: Settings, stream: Stream) -> None:
        self._settings = settings
        self._stream = stream

    def commit(
        self,
        partitions: Mapping[int, PartitionState],
        batches: Mapping[int, Batch],
        ownership: Ownership,
        snapshot_offsets: int | None = None,
        snapshot_seconds: float | None = None,
    ) -> bool:
        """Publish the batches and the snapshots that are due in one transaction; return whether any snapshot was.

        Args:
            partitions: The owned partitions.
            batches: What came of the records of some of them.
            ownership: What the latest poll said that may be committed.
            snapshot_offsets: A station is due once its oldest unsaved row is this far back; the setting's by default.
            snapshot_seconds: ... or this old.

        Raises:
            Unavailable: the outcome is unknown, or another worker owns the partitions now.
        """
        offsets = self._settings.snapshot_offsets if snapshot_offsets is None else snapshot_offsets
        seconds = self._settings.snapshot_seconds if snapshot_seconds is None else snapshot_seconds
        taken = {partition: state.checkpoint(offsets, seconds) for partition, state in partitions.items()}
        taken = {partition: point for partition, point in taken.items() if partition in batches or point.needed}
        if not taken:
            return False
        messages = [
            message
            for partition, point in taken.items()
            for message in self._messages(partition, batches.get(partition, Batch()), point)
        ]
        positions = {partition: Position(point.position, point.note.encode()) for partition, point in taken.items()}
        written = self._stream.commit(messages, positions, ownership)
        for partition, point in taken.items():
            partitions[partition].take_commit(point)
        for partition, state in partitions.items():
            state.pred_offset = written.get((self._settings.pred_topic, partition), state.pred_offset)
            state.dlq_offset = written.get((self._settings.dlq_topic, partition), state.dlq_offset)
        return any(point.snapshots for point in taken.values())

    def _messages(self, partition: int, batch: Batch, point: Checkpoint) -> Iterator[Message]:
        settings = self._settings
        for prediction in batch.predictions:
            yield Message(settings.pred_topic, partition, prediction.station_id.encode(), prediction.to_bytes())
        for finding in batch.findings:
            yield Message(settings.events_topic, partition, finding.station_id.encode(), finding.to_bytes())
        for letter in batch.dead_letters:
            yield dead_letter(letter, settings)
        for snapshot in point.snapshots:
            yield Message(settings.state_topic, partition, snapshot.key, snapshot.value, snapshot.headers)
