"""Which stations of a partition send nothing while its event time goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

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
        #: The newest hour when the latest row of each came; the one that waits longest first.
        self._waiting: dict[Station, int] = {}
        #: The same of stations whose snapshot is ahead of a replay: none waits before the replay has come to its latest row.
        self._ahead: dict[Station, int] = {}

    def begin(self, stations: Iterable[Station], newest: int) -> None:
        """Begin with stations that were brought back, at the partition's ``newest`` hour, which a replay moves on."""
        self.newest = newest
        self._waiting = {}
        self._ahead = dict(sorted(((station, station.newest_then) for station in stations), key=lambda each: each[1]))
        self._reach()

    def move(self, station: Station, hour: int) -> Sequence[tuple[Station, list[Found]]]:
        """Take note of a row of ``station`` and return the others that are silent by now, with what they found."""
        self._waiting.pop(station, None)
        self._ahead.pop(station, None)
        silent = self.pass_by(hour)
        station.note_newest(self.newest)
        self._waiting[station] = self.newest
        return silent

    def pass_by(self, hour: int) -> Sequence[tuple[Station, list[Found]]]:
        """Take note of a row whose station holds it already."""
        if hour <= self.newest:
            return ()
        self.newest = hour
        self._reach()
        silent = [(station, found) for station in list(self._longest()) if (found := station.pass_time(hour))]
        for station, _ in silent:
            del self._waiting[station]
        return silent

    def _reach(self) -> None:
        for station, newest_then in list(takewhile(lambda each: each[1] <= self.newest, self._ahead.items())):
            self._waiting[station] = newest_then
            del self._ahead[station]

    def _longest(self) -> Iterator[Station]:
        for station, newest_then in self._waiting.items():
            if self.newest - newest_then < SILENCE_HOURS:
                return
            yield station
