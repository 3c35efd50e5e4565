"""What can be declared of a network: its columns with units, limits and roles, and how columns belong together.

Readers ask for roles, not for names: which columns are gas sensors, which are weather, which one is the target. The order
of the columns is the order of every matrix of raw values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

#: ``target``: what is predicted, by a reference analyser. ``analyser``: another reference analyser beside it. ``sensor``: a
#: gas the device itself measures. ``weather``: what the device measures of the air around it.
Role = Literal["target", "analyser", "sensor", "weather"]
#: What the simulator's own weather can stand for: degrees C, per cent, and the vapour that follows from both.
Weather = Literal["temperature", "humidity", "vapour"]

#: Predictions of the target below which the detectors do not judge its analyser.
LEAST_VIEWS = 4
#: Fields of a raw record that are no columns.
RECORD_FIELDS = ("station_id", "DateTime")
#: How units are written where only ASCII can be: on the wire, in metric names, on a terminal.
_ASCII = str.maketrans({"µ": "u", "³": "3", "²": "2", "°": "deg"})


@dataclass(frozen=True, slots=True)
class Response:
    """How the simulator lets one instrument answer, as a log-linear law; ``drift`` is its gain in log units in the history.

    ``base`` is the log of the usual value, ``target``, ``temperature`` and ``vapour`` are what follows from a unit of each.
    """

    base: float
    target: float
    temperature: float
    vapour: float
    drift: float
    noise: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """What an instrument reports in ordinary air: smallest and largest value, decimals; ``rows`` if it falls silent."""

    low: float
    high: float
    decimals: int
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the raw records.

    Attributes:
        name: As records, files and pages have it.
        short: Its name in features, lower case.
        role: What kind of instrument it comes from.
        unit: As people write it; empty where it has none.
        limits: What no such instrument can report lies outside, inclusive. Odd but possible is an alarm's business.
        floor: Where features stop taking the logarithm (half the instrument's resolution); None: compared as it is.
        detector_floor: The same for detectors; None: ``floor``.
        label: How sentences call it; empty: its name.
        level_feature: Of weather: the feature that holds the value of the hour.
        used: False: recorded, but neither the model nor the monitoring reads it.
        aliases: Names beyond its own that can mean this column only, in files of other origin.
        median_limits: Where the median of outdoor hourly means can lie in this unit: wider than anywhere on Earth, narrower
            than what usual other units make of it; None: ``limits``.
        recorded: What it reports; only simulated data need it.
        simulated: How the simulator makes it, unless it is the target or a twin.
    """

    name: str
    short: str
    role: Role
    unit: str
    limits: tuple[float, float]
    floor: float | None = None
    detector_floor: float | None = None
    label: str = ""
    level_feature: str = ""
    used: bool = True
    aliases: tuple[str, ...] = ()
    median_limits: tuple[float, float] | None = None
    recorded: Recorded | None = None
    simulated: Response | Weather | None = None

    @property
    def ascii_unit(self) -> str:
        """The unit in ASCII: ``ug/m3``, ``degC``."""
        return self.unit.translate(_ASCII)

    @property
    def spoken(self) -> str:
        """How sentences call the column."""
        return self.label or self.name


@dataclass(frozen=True, slots=True)
class Twin:
    """A column that the device computes from others: ``column = factor * polynomial(argument / scale)``.

    Where they disagree, one of them is wrong.

    Attributes:
        column: The computed column.
        argument: The column under the polynomial.
        scale: What it is divided by first.
        degree: Of the polynomial, whose coefficients are fitted on history.
        tolerance: How far off the column may be: a constant, and a share of it.
        factor: The column that the polynomial is multiplied by; None: nothing.
        doubt_beyond: Outside the range of the history the polynomial goes on as a straight line, and this share of the way
            is added to the tolerance; None: it holds everywhere.
        simulated: Coefficients by which the simulator computes the column, highest power first.
    """

    column: str
    argument: str
    scale: float
    degree: int
    tolerance: tuple[float, float]
    factor: str | None = None
    doubt_beyond: float | None = None
    simulated: tuple[float, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """The columns it is computed from."""
        return (self.argument,) if self.factor is None else (self.argument, self.factor)

    @property
    def group(self) -> str:
        """What an alarm about it names: the sources and the column."""
        return "/".join((*self.sources, self.column))


@dataclass(frozen=True, slots=True)
class View:
    """What one of the detectors' predictions of the target uses: ``only`` these columns, or all channels but ``without``."""

    without: tuple[str, ...] = ()
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outage:
    """Columns that go missing together in simulated data, and the share of it in train, validation and test."""

    columns: tuple[str, ...]
    shares: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Guideline:
    """A value of the target that means something to people, and who says so."""

    value: float
    source: str


@dataclass(frozen=True)
class Network:
    """Stations that measure the same columns and are served by one model.

    Attributes:
        name: In words.
        columns: In the order of the data set.
        calibrated: Columns that the target is re-calibrated on, with the exponent that makes each proportional to it.
        pairs: Columns whose ratio and product are features.
        weather_products: Weather columns whose product is a feature, named after their level features.
        twins: Columns the device computes from others.
        views: The detectors' predictions of the target, at least :data:`LEAST_VIEWS`.
        guidelines: Ascending, two of them: where dashboards turn yellow and red.
        outages: How simulated data go missing.
    """

    name: str
    columns: tuple[Column, ...]
    calibrated: tuple[tuple[str, float], ...]
    pairs: tuple[tuple[str, str], ...]
    weather_products: tuple[tuple[str, str], ...]
    twins: tuple[Twin, ...]
    views: tuple[View, ...]
    guidelines: tuple[Guideline, Guideline]
    outages: tuple[Outage, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a declaration that contradicts itself; ``ValueError`` says where."""
        if wrong := list(_contradictions(self)):
            raise ValueError(f"the declaration of {self.name} contradicts itself: {'; '.join(wrong)}")

    def __getitem__(self, name: str) -> Column:
        """Return the column called ``name``."""
        return self.columns[self.index(name)]

    def index(self, name: str) -> int:
        """Return the column's place in a row of raw values."""
        return self.names.index(name)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All columns in order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def target(self) -> Column:
        """What is predicted."""
        return self.of_role("target")[0]

    def of_role(self, *roles: Role) -> tuple[Column, ...]:
        """Return the used columns of these roles, in order."""
        return tuple(column for column in self.columns if column.role in roles and column.used)

    @cached_property
    def inputs(self) -> tuple[Column, ...]:
        """The columns that features read, the target's past included."""
        return self.of_role("target", "analyser", "sensor", "weather")

    @cached_property
    def computed(self) -> frozenset[str]:
        """The columns the device computes from others."""
        return frozenset(twin.column for twin in self.twins)

    @cached_property
    def device(self) -> tuple[Column, ...]:
        """What the device itself reports: gas sensors, then weather, each kind's computed columns last."""
        return (*self._computed_last("sensor"), *self._computed_last("weather"))

    @cached_property
    def channels(self) -> tuple[Column, ...]:
        """The columns detectors compare: what is measured, gas sensors first, then weather that is computed from weather."""
        sensors = (column for column in self.of_role("sensor") if column.name not in self.computed)
        return (*sensors, *self._computed_last("weather"))

    def _computed_last(self, role: Role) -> tuple[Column, ...]:
        return tuple(sorted(self.of_role(role), key=lambda column: column.name in self.computed))


def _contradictions(network: Network) -> Iterator[str]:
    columns, names = network.columns, set(network.names)
    if len(network.views) < LEAST_VIEWS:
        yield f"{len(network.views)} views of the target are too few: {LEAST_VIEWS} are needed to outvote a faulty one"
    n_targets = sum(column.role == "target" for column in columns)
    if n_targets != 1:
        yield f"one column is the target, not {n_targets}"
    for what, counted in (("name", network.names), ("short name", tuple(column.short for column in columns))):
        yield from (f"{what} {name!r} is there twice" for name, n in Counter(counted).items() if n > 1)
    yield from (f"{name} is a field of every record, not a column" for name in RECORD_FIELDS if name in names)
    yield from (f"{column.name}: limits {column.limits}" for column in columns if column.limits[0] >= column.limits[1])
    yield from (f"{name} is declared nowhere" for name in dict.fromkeys(_named(network)) if name not in names)
    logged = {column.name for column in columns if column.floor is not None}
    compared = {name for name, _ in network.calibrated} | {name for pair in network.pairs for name in pair}
    gases = {column.name for column in columns if column.role != "weather" and column.used}
    yield from (f"{name} needs a floor: its logarithm is taken" for name in sorted((compared | gases) & names - logged))


def _named(network: Network) -> Iterator[str]:
    """Name every column that the rest of a declaration speaks of."""
    yield from (name for name, _ in network.calibrated)
    yield from (name for pair in (*network.pairs, *network.weather_products) for name in pair)
    yield from (name for twin in network.twins for name in (twin.column, *twin.sources))
    yield from (name for view in network.views for name in (*view.without, *view.only))
    yield from (name for outage in network.outages for name in outage.columns)
