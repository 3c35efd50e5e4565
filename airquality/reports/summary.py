"""``monitoring_summary.json``: one part per raw partition, written by its owner, merged by whoever writes last.

Consumers of one group share one reports folder and the partitions between them. Each writes the parts of the partitions
it owns and then the sum of all parts, under the folder's lock, so the summary does not depend on how many consumers there
are nor on which of them owns what. A part outlives its owner: the next one goes on from it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from airquality.ground.files import write_atomically
from airquality.monitoring.alarms import Event
from airquality.monitoring.windows import per_kind
from airquality.records import isoformat, or_null
from airquality.reports.lock import OWN_FOLDER, locked
from airquality.truth.performance import NO_ERRORS, ErrorSums, Performance

SUMMARY_NAME = "monitoring_summary.json"

_LOCK_SECONDS = 2.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StationFigures:
    """What the summary says of one station: its reports and windows by name and window kind, its error, its open alarms."""

    station_id: str
    model_version: str
    reports: Mapping[str, Mapping[str, int]]
    errors: ErrorSums
    alarms: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class PartitionFigures:
    """What the summary says of one raw partition: its counts, as the summary names them, and its stations by name."""

    counts: Mapping[str, Any]
    stations: tuple[StationFigures, ...]


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose figures a part holds: the group, its raw topic, and what its windows are judged by.

    ``detectors_off`` is why nothing is judged hour by hour, empty while it is; ``uncalibrated`` are the model versions that
    the reference is not of.
    """

    group: str
    topic: str
    data_source: str
    baseline: Performance
    detectors_off: str = ""
    uncalibrated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """The figures of one raw partition.

    ``counts`` is what the consumer counts (``rows_in`` and what became of the rows), ``reports`` holds the counters of the
    monitoring by name and window kind, ``alarms`` the open ones as the summary shows them.
    """

    group: str
    topic: str
    partition: int
    data_source: str
    baseline: Performance
    model_versions: tuple[str, ...]
    counts: Mapping[str, Any]
    reports: Mapping[str, Mapping[str, int]]
    errors: ErrorSums
    alarms: tuple[Mapping[str, Any], ...]
    detectors_off: str = ""
    uncalibrated: tuple[str, ...] = ()

    @classmethod
    def of(cls, owner: Owner, partition: int, figures: PartitionFigures) -> Part:
        """Return the part of a partition, over its stations."""
        errors = NO_ERRORS
        for station in figures.stations:
            errors = errors.merged(station.errors)
        versions = tuple(dict.fromkeys(s.model_version for s in figures.stations if s.model_version))
        return cls(
            group=owner.group,
            topic=owner.topic,
            partition=partition,
            data_source=owner.data_source,
            baseline=owner.baseline,
            model_versions=versions,
            counts=figures.counts,
            reports=added([_NO_REPORTS, *(station.reports for station in figures.stations)]),
            errors=errors,
            alarms=tuple(_shown(station.station_id, event) for station in figures.stations for event in station.alarms),
            detectors_off=owner.detectors_off,
            uncalibrated=tuple(version for version in versions if version in owner.uncalibrated),
        )

    @property
    def file_name(self) -> str:
        """Where the part lies: its group and topic are part of the name, so that another group's never mix with it."""
        return f"{_stem(self.group, self.topic)}-{self.partition}.json"

    def encode(self) -> bytes:
        """Return the part's file."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    @classmethod
    def decode(cls, content: bytes) -> Part:
        """Return the part a file holds; raises ``ValueError``, ``KeyError``, ``TypeError`` or ``AttributeError`` if none."""
        fields = json.loads(content)
        _require_sound(fields)
        return cls(
            **{
                **fields,
                "baseline": Performance(**fields["baseline"]),
                "errors": ErrorSums(**fields["errors"]),
                "model_versions": tuple(fields["model_versions"]),
                "alarms": tuple(fields["alarms"]),
                "uncalibrated": tuple(fields.get("uncalibrated", ())),
            }
        )

    def continuing(self, before: Part | None) -> Part:
        """Return this part with no fewer reports than its partition had ``before``.

        A new owner counts the reports of replayed windows once more, one by one, so its count starts lower and ends where
        it was. Fewer rows than before mean another history, whose reports count from nothing.
        """
        if before is None or before.counts.get("rows_in", 0) > self.counts.get("rows_in", 0):
            return self
        earlier = before.reports["generated"]
        generated = {kind: max(count, earlier.get(kind, 0)) for kind, count in self.reports["generated"].items()}
        return replace(self, reports={**self.reports, "generated": generated})


def _require_sound(fields: Mapping[str, Any]) -> None:
    """Raise if a part could not be added to others: what is damaged may cost its own figures, and no summary."""
    named = [alarm[name] for alarm in fields["alarms"] for name in ("station_id", "alarm")]
    lists = [*fields["model_versions"], *fields.get("uncalibrated", ())]
    texts = [fields["group"], fields["topic"], fields["data_source"], fields.get("detectors_off", ""), *lists, *named]
    numbers = [fields["partition"], *fields["errors"].values(), *fields["baseline"].values()]
    numbers += [*_leaves(fields["counts"]), *_leaves(fields["reports"]), *_leaves(fields["reports"]["generated"])]
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(number, int | float) for number in numbers):
        raise TypeError("a text or a number is none")


def _leaves(document: Mapping[str, Any]) -> Iterator[Any]:
    for value in document.values():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            yield value


_NO_REPORTS = {name: per_kind() for name in ("generated", "failed", "drifted", "empty", "unjudged")}


#: What the summary says of an alarm; by whom, where somebody acknowledged it.
_SHOWN = ("since", "column", "size", "unit", "by", "by_at")


def _shown(station_id: str, event: Event) -> dict[str, Any]:
    """Return what the summary says of an open alarm."""
    if event.alarm[0]:  # a verdict's: it has neither size nor sensor
        return {"station_id": station_id, "detector": event.detector, "alarm": event.column, "since": isoformat(event.at)}
    figures = {name: value for name, value in event.to_json().items() if name in _SHOWN}
    return {"station_id": station_id, "alarm": f"{event.detector}:{event.column}", **figures}


def _stem(group: str, topic: str) -> str:
    return hashlib.sha256(json.dumps([group, topic]).encode()).hexdigest()[:16]


def merge(parts: Sequence[Part]) -> dict[str, Any]:
    """Return what ``monitoring_summary.json`` holds over ``parts``, at least one, in the order of their partitions.

    An undefined figure is null.
    """
    ordered = sorted(parts, key=lambda part: part.partition)
    errors = NO_ERRORS
    for part in ordered:
        errors = errors.merged(part.errors)
    versions = dict.fromkeys(version for part in ordered for version in part.model_versions)
    counts = added(part.counts for part in ordered)
    reports = added([_NO_REPORTS, *(part.reports for part in ordered)])
    return {
        "data_source": ", ".join(dict.fromkeys(part.data_source for part in ordered)),
        "model_version": ", ".join(versions),
        "uncalibrated": list(dict.fromkeys(version for part in ordered for version in part.uncalibrated)),
        **counts,
        "reports_generated": reports["generated"],
        "reports_failed": sum(reports["failed"].values()),
        "drift_detected": reports["drifted"],
        "windows_without_predictions": reports["empty"],
        "windows_not_judged": reports["unjudged"],
        "performance": _without_nan(asdict(errors.performance())),
        "baseline": _without_nan(asdict(ordered[0].baseline)),
        "detectors_off": "; ".join(dict.fromkeys(part.detectors_off for part in ordered if part.detectors_off)) or None,
        "open_alarms": sorted((dict(alarm) for part in ordered for alarm in part.alarms), key=_by_station),
    }


def _by_station(alarm: Mapping[str, Any]) -> tuple[str, str, str]:
    return alarm["station_id"], alarm["alarm"], alarm.get("detector", "")


def added(documents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the documents added up: numbers and the numbers in nested documents; of anything else the first is kept.

    >>> added([{"rows": 1, "dead": {"late": 1}}, {"rows": 2, "dead": {"late": 1, "conflict": 3}}])
    {'rows': 3, 'dead': {'late': 2, 'conflict': 3}}
    """
    total: dict[str, Any] = {}
    for document in documents:
        for name, value in document.items():
            total[name] = _sum(total[name], value) if name in total else value
    return total


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return added((one, other))
    if isinstance(one, int | float) and not isinstance(one, bool):
        return one + other
    return one


def _without_nan(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: or_null(figure) for name, figure in figures.items()}


class SummaryFile:
    """The summary of one group and topic in a reports folder that other consumers of the group share."""

    def __init__(self, reports_dir: Path) -> None:
        self._reports_dir = reports_dir
        self._path = reports_dir / SUMMARY_NAME
        self._skipped: set[Path] = set()

    def write(self, parts: Sequence[Part]) -> None:
        """Write ``parts``, all of one group and topic, and the sum of every part of that group and topic.

        Raises:
            OSError: the folder cannot be written, or another process holds its lock.
        """
        with locked(self._reports_dir, _LOCK_SECONDS):
            folder = self._reports_dir / OWN_FOLDER / "summary"
            folder.mkdir(exist_ok=True)
            for part in parts:
                path = folder / part.file_name
                _write_if_changed(path, part.continuing(self._read(path)).encode())
            stem = _stem(parts[0].group, parts[0].topic)
            read = [self._read(path) for path in folder.glob(f"{stem}-*.json")]
            all_parts = [part for part in read if part is not None]
            _write_if_changed(self._path, (json.dumps(merge(all_parts), indent=2) + "\n").encode())

    def _read(self, path: Path) -> Part | None:
        """Return the part at ``path``; None if there is none or it is not ours, which is said once."""
        try:
            return Part.decode(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if path not in self._skipped:
                self._skipped.add(path)
                logger.warning("%s is no part of a summary and is left out: %s", path, error)
            return None


def _write_if_changed(path: Path, content: bytes) -> None:
    try:
        if path.read_bytes() == content:
            return
    except OSError:
        pass  # absent or unreadable: replace it
    write_atomically(path, content)
