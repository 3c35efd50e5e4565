"""Which partition each station lives on.

Any partitioner is fine as long as a station stays on one partition. A station lives where its first row was accepted; where
two partitions hold one, where that was earlier by Kafka's timestamp. What this consumer cannot see is a station of another
consumer's partition that has no snapshot yet: at most ``SNAPSHOT_SECONDS``. Of the two states that can come of it, the later
one is left out at the next restore.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from airquality.ground.errors import InvalidRecord


class Homes:
    """The home of every station that is known: of the owned partitions, and of all others by their snapshots."""

    def __init__(self, look: Callable[[], None] = lambda: None) -> None:
        """``look`` is asked to learn what is new on other partitions before a station counts as unknown."""
        self._homes: dict[str, tuple[int, int]] = {}
        self._look = look

    def learn(self, station_id: str, partition: int, since_ms: int) -> None:
        """Note that ``partition`` holds the station since that Kafka timestamp."""
        found = (since_ms, partition)
        self._homes[station_id] = min(found, self._homes.get(station_id, found))

    def forget(self, station_id: str, partition: int) -> None:
        """Note that ``partition`` does not hold the station any more."""
        if self.home(station_id) == partition:
            del self._homes[station_id]

    def home(self, station_id: str) -> int | None:
        """Return the partition the station lives on, None if it is not known."""
        found = self._homes.get(station_id)
        return None if found is None else found[1]

    def all(self) -> Iterator[tuple[str, int]]:
        """Yield every known station and its home, by name."""
        return ((station_id, self._homes[station_id][1]) for station_id in sorted(self._homes))

    def require(self, station_id: str, partition: int) -> None:
        """Raise ``InvalidRecord`` if the station lives on another partition."""
        if station_id not in self._homes:
            self._look()
        home = self.home(station_id)
        if home not in (None, partition):
            raise InvalidRecord(
                "moved",
                f"{station_id} came on partition {partition} but lives on partition {home}: all its producers must use the "
                f"same partitioner, with station_id as the key; to move it, see python -m airquality repartition",
            )
