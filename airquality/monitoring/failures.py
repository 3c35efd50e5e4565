"""What failed in the monitoring of this process: predictions go on without it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

logger = logging.getLogger(__name__)


class Failures:
    """Which part of which station's monitoring is off in this process, and why.

    Args:
        show: Called with the part's name, how many stations it is off for, and why, whenever that changes.
    """

    def __init__(self, show: Callable[[str, int, str], None] | None = None) -> None:
        self._show = show
        self._off: dict[str, dict[str, str]] = {}  # by part: by station, why
        self._said: set[str] = set()

    def note(self, station_id: str, part: str, error: Exception, kept: str) -> None:
        """Note that a part failed and is off for a station; the first failure of each part is logged with its traceback.

        Args:
            station_id: The station.
            part: The part's name.
            error: What it raised.
            kept: What becomes of its memory, the end of a sentence.
        """
        why = f"{type(error).__name__}: {error}"
        self._off.setdefault(part, {})[station_id] = why
        logger.error(
            "%s: its monitoring failed in %r, which is off for this station until the next start; predictions go on. %s. %s",
            *(station_id, part, kept, why),
            exc_info=None if part in self._said else error,
        )
        self._said.add(part)
        self._changed(part)

    def forget(self, station_id: str) -> None:
        """Let go of a station that another consumer has now."""
        for part, stations in self._off.items():
            if stations.pop(station_id, None) is not None:
                self._changed(part)

    @property
    def sentences(self) -> list[str]:
        """What is off, a sentence a part."""
        return [_sentence(part, stations) for part, stations in sorted(self._off.items()) if stations]

    def _changed(self, part: str) -> None:
        if self._show:
            stations = self._off[part]
            self._show(part, len(stations), next(iter(stations.values()), ""))


def _sentence(part: str, stations: Mapping[str, str]) -> str:
    first, why = next(iter(stations.items()))
    more = f" and {len(stations) - 1} more stations" if len(stations) > 1 else ""
    return f"{part} of {first}{more}: {why}"
