"""One station: its buffer, its detectors, its windows, the account of its reports, and since when a snapshot holds them.

A :class:`Station` is the only thing that is kept by station id. Its detectors are components (see
``airquality.monitoring.component``) in the order in which they are named; the windows come last, so that a window knows what
the detectors had open at its end. A component that fails is off until the next start, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar, cast

from airquality.ground.typed import plain
from airquality.incoming import LateTruth, Operation
from airquality.monitoring.alarms import Event, OpenAlarms
from airquality.monitoring.assurance import Assurance, AssuranceState
from airquality.monitoring.component import (
    Buffer,
    Component,
    Found,
    Learns,
    Missed,
    Refusal,
    Row,
    TakesOperations,
    TakesRefusals,
    TakesTime,
    TakesTruths,
    takes,
)
from airquality.monitoring.drift import Window
from airquality.monitoring.failures import Failures
from airquality.monitoring.windows import WINDOWS, Windows, WindowsState
from airquality.records import Reading
from airquality.reports.ledger import LedgerState, ReportLedger
from airquality.reports.summary import StationFigures
from airquality.stream import snapshots
from airquality.stream.latest import Latest, LatestFinal, LatestWindow
from airquality.truth.intervals import Interval
from airquality.truth.window_truth import WindowTruth

#: What the account of truths is called where it is off, beside the windows and the detectors' own names.
INTERVALS = "intervals"

_NOTHING: Mapping[str, int] = {}
NOTHING_YET = Latest()

A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unsaved:
    """The oldest record that changed a station and is in no snapshot: where it is, and since when (monotonic seconds)."""

    offset: int
    pred_offset: int
    dlq_offset: int
    since: float
    newest: int = 0  # the partition's newest hour before it


@dataclass(frozen=True, slots=True)
class Off:
    """From which hour on a part sees no more rows, and why."""

    since: int
    why: str


@dataclass(frozen=True, slots=True, eq=False)
class StationState:
    """Everything held for one station, as of a raw offset.

    What failed is here as it was when it failed; it is absent, and begins anew, where even that could not be saved. ``off``
    holds since when it saw no row, for the process in which it goes on.
    """

    station_id: str
    group: str
    offset: int
    buffer: object
    detectors: Mapping[str, object]
    windows: WindowsState | None
    reports: LedgerState
    alarms: tuple[Event, ...]
    assurance: AssuranceState | None
    off: Mapping[str, Off] = field(default_factory=dict)
    latest: Latest = NOTHING_YET


class Station:
    """Everything held for one station.

    Args:
        station_id: Its name.
        buffer: Its recent hours.
        detectors: Its detectors by name; components that see every accepted row.
        windows: Its windows, which see what the detectors found in the row.
        reports: The account of its reports.
        alarms: What is open.
        assurance: Its intervals, and what truth made of its predictions.
        failures: Counts the parts that fail.
        off: The parts that were off when the snapshot was taken: they go on with the next row, which is said then.
        latest: What its metrics show.
    """

    def __init__(
        self,
        station_id: str,
        buffer: Buffer,
        detectors: Mapping[str, Component],
        windows: Windows,
        reports: ReportLedger,
        alarms: OpenAlarms,
        assurance: Assurance,
        failures: Failures,
        off: Mapping[str, Off] = MappingProxyType({}),
        latest: Latest = NOTHING_YET,
    ) -> None:
        self.station_id = station_id
        self.buffer = buffer
        self.detectors = detectors
        self.windows = windows
        self.reports = reports
        self.alarms = alarms
        self.assurance = assurance
        #: Kafka timestamp of its first row.
        self.since_ms = -1
        #: The raw offset up to which its last snapshot holds it, -1 without one.
        self.saved_offset = -1
        self.saved = False
        self.unsaved: Unsaved | None = None
        #: When Kafka took in its latest accepted row, and what was predicted last; set by whoever publishes it.
        self.arrived_ms = latest.arrived_ms
        self.prediction = latest.prediction
        self._latest_windows = dict(latest.windows)
        self._latest_finals = dict(latest.finals)
        self._failures = failures
        self._live: dict[str, Component] = {**detectors, WINDOWS: windows, INTERVALS: assurance}
        self._kept: dict[str, object] = {}  # the states of those that failed
        self._off: dict[str, Off] = {}  # those that are off in this process
        self._were_off = dict(off)
        self._next_hour = -1 if buffer.newest_hour is None else buffer.newest_hour + 1  # that no part has seen yet
        self._sort_out()

    def _sort_out(self) -> None:
        """Sort out who is asked what with every row."""
        live = self._live.items()
        self._timed = tuple((name, cast(TakesTime, part)) for name, part in live if takes(part, TakesTime))
        self._learning_parts = tuple((name, cast(Learns, part)) for name, part in live if takes(part, Learns))
        self._judging = tuple((name, part) for name, part in live if name not in (WINDOWS, INTERVALS))

    def update(self, row: Row) -> list[Found]:
        """Take in an accepted row and return what was found: alarm events, and windows that closed."""
        self._next_hour = row.reading.hour
        found: list[Found] = [*self._missed()] if self._were_off else []
        events = self._detected(row)
        found += events
        if WINDOWS in self._live:
            found += self._found(WINDOWS, self.windows.update, self._with_events(row, events))
        if INTERVALS in self._live and (learned := self._found(INTERVALS, self.assurance.update, row)):
            found += self._heard(learned)
        self._next_hour = row.reading.hour + 1
        return self._said(found) if found else found

    def _with_events(self, row: Row, events: list[Event]) -> Row:
        """Return the row with what the detectors say of it; most often that is nothing."""
        learning = self._learning(row.reading.hour)
        return Row(row.reading, row.predicted, tuple(events), learning) if events or learning else row

    def note_off(self, part: str, why: str, since: int) -> None:
        """Note that a part sees no row from hour ``since`` on in this process."""
        self._off.setdefault(part, Off(since, why))

    def _missed(self) -> list[Missed]:
        """Return what parts that were off before this process did not see; the windows know, so that reports say it."""
        until = self._next_hour - 1
        missed = [Missed(part, off.since, until, off.why) for part, off in self._were_off.items() if off.since <= until]
        self._were_off.clear()
        for each in missed:
            if WINDOWS in self._live:
                self._asked(WINDOWS, self.windows.note_missed, each, None)
        return missed

    def around(self, reading: Reading, prediction: float) -> Interval | None:
        """Return the interval to publish with the prediction of a row that is taken in next; None once that failed."""
        if INTERVALS not in self._live:
            return None
        try:
            return self.assurance.around(reading, prediction)
        except Exception as error:  # noqa: BLE001 - as in _asked
            self._switch_off(INTERVALS, error)
            return None

    def take_truth(self, truth: LateTruth) -> list[Found]:
        """Take in a truth that came late and filled its hour; return what was found."""
        live = self._live.items()
        parts = [(name, cast(TakesTruths, part).take_truth) for name, part in live if takes(part, TakesTruths)]
        return self._said(self._heard(found for name, take in parts for found in self._found(name, take, truth)))

    def operate(self, operation: Operation) -> list[Found]:
        """Do what an operator decided and return what it opened, changed or closed."""
        live = self._live.items()
        parts = [(name, cast(TakesOperations, part).operate) for name, part in live if takes(part, TakesOperations)]
        return self._said(self._heard(event for name, do in parts for event in self._found(name, do, operation)))

    def take_refusal(self, refusal: Refusal) -> list[Found]:
        """Take in a reading of the station that was refused; return what was found."""
        live = self._live.items()
        parts = [(name, cast(TakesRefusals, part).take_refusal) for name, part in live if takes(part, TakesRefusals)]
        return self._said(self._heard(event for name, take in parts for event in self._found(name, take, refusal)))

    def pass_time(self, newest: int) -> list[Found]:
        """Notice that the partition's newest hour is ``newest`` now; return what was found."""
        parts = [(name, part.pass_time) for name, part in self._timed]
        return self._said(self._heard(event for name, go_on in parts for event in self._found(name, go_on, newest)))

    def note_newest(self, newest: int) -> None:
        """Note the newest hour of the partition as of the station's latest row."""
        for name, part in self._timed:
            self._asked(name, part.note_newest, newest, None)

    @property
    def newest_then(self) -> int:
        """The newest hour of the partition when the station's latest row came, -1 before its first."""
        return max((part.newest_then for _, part in self._timed), default=-1)

    def _found(self, name: str, ask: Callable[[A], Sequence[Found]], what: A) -> Sequence[Found]:
        """Return what a part finds, nothing where it fails."""
        try:
            return ask(what)
        except Exception as error:  # noqa: BLE001 - as in _asked
            self._switch_off(name, error)
            return ()

    def _asked(self, name: str, ask: Callable[[A], T], what: A, otherwise: T) -> T:
        """Return what a part says, ``otherwise`` where it fails: it is off then, and nothing asks it any more."""
        try:
            return ask(what)
        except Exception as error:  # noqa: BLE001 - monitoring never stops predictions, whatever is wrong with it
            self._switch_off(name, error)
            return otherwise

    def _switch_off(self, name: str, error: Exception) -> None:
        state = _saveable(self._live.pop(name))
        self._sort_out()
        if state is not None:
            self._kept[name] = state
        self.note_off(name, f"{type(error).__name__}: {error}", self._next_hour)
        becomes = "begins anew, as its memory cannot be saved" if state is None else "goes on from what it remembered"
        self._failures.note(self.station_id, name, error, f"After the next start it {becomes}")

    def _heard(self, found: Iterable[Found]) -> list[Found]:
        """Let the windows know the alarms of what was found after the latest row."""
        heard = list(found)
        if WINDOWS in self._live:
            self._asked(WINDOWS, self.windows.hear, [each for each in heard if isinstance(each, Event)], None)
        return heard

    def _said(self, said: list[Found]) -> list[Found]:
        """Keep account of what was found: alarms, and reports that are to be made or made anew."""
        for each in said:
            if isinstance(each, Event):
                self.alarms.take(each)
            elif isinstance(each, Window):
                self.reports.outstanding += 1
                kind = each.kind.name
                self._latest_windows[kind] = LatestWindow.of(each).after(self._latest_windows.get(kind))
            elif isinstance(each, WindowTruth):
                self.reports.outstanding += bool(each.late)
                final = LatestFinal.of(each, self.assurance.books.records[each.kind].mean_error)
                self._latest_finals[each.kind] = final.after(self._latest_finals.get(each.kind))
        return said

    @property
    def latest(self) -> Latest:
        """What its metrics show."""
        return Latest(self.arrived_ms, self.prediction, dict(self._latest_windows), dict(self._latest_finals))

    def _detected(self, row: Row) -> list[Event]:
        said: list[Found] = []
        for name, part in self._judging:  # a part that fails leaves other pairs in their place
            said += self._found(name, part.update, row)
        return sorted((found for found in said if isinstance(found, Event)), key=lambda event: event.at) if said else []

    def _learning(self, hour: int) -> tuple[tuple[str, int], ...]:
        said: list[tuple[str, int]] = []
        for name, part in self._learning_parts:
            said += self._asked(name, part.learning, hour, _NOTHING).items()
        return tuple(said)

    def snapshot(self, group: str, offset: int) -> bytes:
        """Return :meth:`state` as the state topic holds it; a part whose memory cannot stand there is off from now on."""
        try:
            return self._encoded(group, offset)
        except ValueError:
            for name, part in list(self._live.items()):
                self._asked(name, _encoded, part, b"")
            return self._encoded(group, offset)

    def _encoded(self, group: str, offset: int) -> bytes:
        state = plain(self.state(group, offset))
        try:
            return snapshots.encode(state)
        except snapshots.TooLarge:  # of all it holds, the windows whose reports failed are what can be done without
            return snapshots.encode({**state, "reports": {**state["reports"], "unmade": []}})

    def state(self, group: str, offset: int) -> StationState:
        """Return everything held, as of raw ``offset``; only while no window is to be stored yet as due."""
        states = self._states()
        windows, assurance = states.pop(WINDOWS, None), states.pop(INTERVALS, None)
        assert isinstance(windows, WindowsState | None)
        assert isinstance(assurance, AssuranceState | None)
        return StationState(
            station_id=self.station_id,
            group=group,
            offset=offset,
            buffer=self.buffer.state(),
            detectors=states,
            windows=windows,
            reports=self.reports.state(),
            alarms=self.alarms.state(),
            assurance=assurance,
            off={**self._off, **self._were_off},
            latest=self.latest,
        )

    def _states(self) -> dict[str, object]:
        """Return what each part remembers, by its name; one that cannot say is off and absent."""
        said = {name: self._asked(name, _state_of, part, None) for name, part in list(self._live.items())}
        known = {name: state for name, state in said.items() if state is not None} | self._kept
        return {name: known[name] for name in (*self.detectors, WINDOWS, INTERVALS) if name in known}

    def figures(self) -> StationFigures:
        """Return what the summary says of the station."""
        return StationFigures(
            station_id=self.station_id,
            model_version=self.windows.model_version,
            reports={
                "generated": dict(self.reports.generated),
                "failed": dict(self.reports.failed),
                "drifted": dict(self.windows.drifted),
                "empty": dict(self.windows.empty),
                "unjudged": dict(self.windows.unjudged),
            },
            errors=self.windows.errors.merged(self.assurance.late_errors),
            alarms=self.alarms.by_column(),
        )


def _state_of(part: Component) -> object:
    return part.state()


def _encoded(part: Component) -> bytes:
    return snapshots.encode({"part": plain(part.state())})


def _saveable(part: Component) -> object | None:
    """Return the state of a part that failed, None where it has none that a snapshot can hold."""
    try:
        _encoded(part)
        return part.state()
    except Exception:  # noqa: BLE001 - whatever is wrong with it is what it failed of, which is logged
        return None
