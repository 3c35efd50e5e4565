"""Which stations of a partition send nothing while its event time goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from airquality.monitoring.component import Found
from airquality.monitoring.silence import SILENCE_HOURS
from airquality.stream.station import Station


class Quiet:
    """The stations by how far the partition's newest hour has gone on since their latest row; each row costs the same.

    A station that is hours behind the others, in another time zone or catching up, is not silent: what counts is by how much
    the newest hour has moved since its own latest row came.
    """

    def __init__(self) -> None:
        self.newest = 0
        self._waiting: dict[Station, None] = {}  # the one that waits longest first

    def begin(self, stations: Iterable[Station], newest: int) -> None:
        """Begin with stations that were brought back, at the partition's ``newest`` hour."""
        self.newest = newest
        self._waiting = dict.fromkeys(sorted(stations, key=lambda station: station.newest_then))

    def move(self, station: Station, hour: int) -> Iterator[tuple[Station, list[Found]]]:
        """Take note of a row of ``station`` and yield the others that are silent by now, with what they found."""
        self._waiting.pop(station, None)
        if hour > self.newest:
            self.newest = hour
            yield from self._overdue()
        station.note_newest(self.newest)
        self._waiting[station] = None

    def pass_by(self, hour: int) -> Iterator[tuple[Station, list[Found]]]:
        """Take note of a row whose station holds it already."""
        if hour > self.newest:
            self.newest = hour
            yield from self._overdue()

    def _overdue(self) -> Iterator[tuple[Station, list[Found]]]:
        for station in list(self._longest()):
            found = station.pass_time(self.newest)
            if found:
                del self._waiting[station]
                yield station, found

    def _longest(self) -> Iterator[Station]:
        for station in self._waiting:
            if self.newest - station.newest_then < SILENCE_HOURS:
                return
            yield station
