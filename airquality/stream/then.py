"""What was decided of records when they came: where they are replayed it holds, whatever the rules are now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from airquality.ground.errors import InvalidRecord, Refused
from airquality.incoming import LateTruth, Operation, parse_record
from airquality.records import PARSE_REASONS, Reading
from airquality.stream.batches import MAX_BATCH_BYTES
from airquality.stream.kafka_io import Record


@dataclass(frozen=True, slots=True)
class Then:
    """What was decided of the records that are replayed; of live ones nothing was.

    Attributes:
        refused: Their dead letters, by raw offset.
        complete: Whether every letter is there: without one, a replayed record was sound then.
    """

    refused: Mapping[int, InvalidRecord] = field(default_factory=dict)
    complete: bool = False

    def kept_out(self, record: Record) -> bool:
        """Whether a replayed row did not enter its station's history."""
        return record.offset in self.refused and self.refused[record.offset].reason != "unpredictable"

    def require_not_moved(self, record: Record) -> None:
        """Raise the ``InvalidRecord`` of then, if the record's station lived elsewhere, whatever is known of it now."""
        if record.offset in self.refused and self.refused[record.offset].reason == "moved":
            raise self.refused[record.offset]

    def parse(self, record: Record) -> Reading | LateTruth | Operation:
        """Return what a record holds.

        Raises:
            InvalidRecord: it is to be a dead letter, or was one then.
            Refused: it was sound then, and is not now.
        """
        then = self.refused.get(record.offset)
        if then is not None and then.reason in PARSE_REASONS:
            raise then
        try:
            if record.unread:
                raise InvalidRecord("oversize", f"its batch inflates to more than {MAX_BATCH_BYTES:,} bytes: it is not read")
            return parse_record(record.key, record.value, record.headers)
        except InvalidRecord as now:
            if not self.complete:
                raise
            raise Refused(
                f"the raw row at offset {record.offset} of partition {record.partition} was sound when it came, and is "
                f"{now.reason} now ({now}): the rules have changed. Start the release and the network (AIR_QUALITY_NETWORK) "
                f"of before, stop that consumer with SIGTERM, which saves every station, and then start this one; or "
                f"--accept-loss forgets such rows"
            ) from now
