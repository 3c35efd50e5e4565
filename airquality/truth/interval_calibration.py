"""The calibration of intervals: scores of out-of-sample predictions, written beside the reference and checked when loaded.

``intervals.json`` holds, by case, the scores' quantiles, what they were made of, and how well the estimate of the error
before its truth did on the same history, always looking forward.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.ground.errors import ContractError, UsageError
from airquality.ground.files import write_atomically
from airquality.records import DEVICE_COLUMNS, RAW_COLUMNS, TARGET_INDEX, WEEKLY_HOURS
from airquality.truth import intervals
from airquality.truth.band import Band, band_of
from airquality.truth.intervals import (
    EDGE_SHARES,
    LEVELS,
    N_QUANTILES,
    OFFSET_SHARE,
    SHARE_BOUNDS,
    Case,
    Interval,
    Intervals,
    ScoreTable,
    memory_factor,
    remembered,
    scale_of,
)

Floats = NDArray[np.float64]

INTERVALS_NAME = "intervals.json"
#: Fewer scores than this say nothing of a case; a level with fewer than the second uses those of all levels.
MIN_SCORES, MIN_LEVEL_SCORES = 200, 50
#: A week with fewer truths has no error, and no coverage, of its own.
MIN_WEEK_TRUTHS = 50

_REMEDY = "Run python generate_reference_dataset.py"


@dataclass(frozen=True, slots=True, eq=False)
class Forecasts:
    """Consecutive hours of one station, predicted out of sample.

    All arrays are ``(n,)``; predictions and truths in the target's unit, NaN where there is none; ``silent`` says whether no
    device column was measured. ``delay_hours`` is how much later than its row each truth was known.
    """

    hours: NDArray[np.int64]
    predictions: Floats
    truths: Floats
    silent: NDArray[np.bool_]
    delay_hours: int = 0


def forecasts_of(hours: NDArray[np.int64], values: Floats, predictions: Floats, delay_hours: int = 0) -> Forecasts:
    """Return the predictions of consecutive hours, ``(n,)``, with what judges them of their values, ``(n, n_columns)``."""
    device = [RAW_COLUMNS.index(name) for name in DEVICE_COLUMNS]
    silent = np.asarray(np.isnan(values[:, device]).all(axis=1))
    return Forecasts(hours, predictions, values[:, TARGET_INDEX], silent, delay_hours)


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """How far the estimated weekly RMSE was from the realised one, relative to it, over ``weeks`` weeks of history."""

    mean_error: float
    weeks: int


@dataclass(frozen=True)
class IntervalCalibration:
    """By case the tables, how well errors were estimated before their truth, and where coverage stays; and made of what."""

    tables: Mapping[Case, ScoreTable]
    track_record: Mapping[Case, TrackRecord]
    bands: Mapping[Case, Band]
    data_source: str
    data_hash: str
    model_hash: str

    @functools.cached_property
    def basis(self) -> str:
        """What identifies it: a station's memory belongs to one calibration."""
        return hashlib.sha256(self._body().encode()).hexdigest()[:16]

    def _body(self) -> str:
        settings = {name: getattr(intervals, name) for name in _SETTINGS}
        return json.dumps({**asdict(self), "settings": settings}, sort_keys=True)

    def to_bytes(self) -> bytes:
        """Return the file."""
        body = json.loads(self._body())
        return (json.dumps({**body, "sha256": _sha256(body)}, indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> IntervalCalibration:
        """Return what a file holds; raises ``ContractError`` if it is not what was written, or of other settings."""
        try:
            body = json.loads(content)
            written = body.pop("sha256")
            tables = {case: _table_from(fields) for case, fields in body["tables"].items()}
            record = {case: TrackRecord(**fields) for case, fields in body["track_record"].items()}
            made_of = {name: str(body[name]) for name in ("data_source", "data_hash", "model_hash")}
            bands = {case: Band(**fields) for case, fields in body["bands"].items()}
            found = cls(tables, record, bands, **made_of)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ContractError(f"{INTERVALS_NAME} cannot be read: {error!r}. {_REMEDY}.") from error
        if written != _sha256(body):
            raise ContractError(f"{INTERVALS_NAME} was changed after it was written. {_REMEDY}.")
        if json.loads(found._body()) != body:
            raise ContractError(f"{INTERVALS_NAME} is of another release. {_REMEDY}.")
        return found


#: What a calibration is only good with.
_SETTINGS = (
    "COVERAGE",
    "OFFSET_SHARE",
    "SILENT_FACTOR",
    "EDGE_SHARES",
    "N_QUANTILES",
    "SHARE_BOUNDS",
    "MEMORY_TRUTHS",
    "MEMORY_POWER",
)


def _table_from(fields: Mapping[str, Any]) -> ScoreTable:
    quantiles = tuple(tuple(map(float, level)) for level in fields["quantiles"])
    if len(quantiles) != len(LEVELS) or any(len(level) != N_QUANTILES for level in quantiles):
        raise ValueError(f"{len(LEVELS)} levels of {N_QUANTILES} quantiles are expected")
    numbers = {name: float(fields[name]) for name in ("offset", "typical", "square")}
    return ScoreTable(**numbers, edges=tuple(map(float, fields["edges"])), quantiles=quantiles, n=tuple(fields["n"]))


def _sha256(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def load(folder: Path) -> IntervalCalibration:
    """Return the calibration in a folder.

    Raises:
        UsageError: there is none; the message says what that means.
        ContractError: it is not what was written.
    """
    path = folder / INTERVALS_NAME
    if not path.exists():
        raise UsageError(f"{path} is absent: predictions carry no interval (lower and upper are null). {_REMEDY}.")
    return IntervalCalibration.from_bytes(path.read_bytes())


def calibrate(history: Mapping[Case, Forecasts], data_source: str, data_hash: str, model_hash: str) -> IntervalCalibration:
    """Return the calibration on the forecasts of each case; a case with too few truths is left out."""
    tables = {case: table for case, forecasts in history.items() if (table := table_of(case, forecasts)) is not None}
    record = {case: track_record(tables, history[case]) for case in tables}
    bands = {case: band_of(inside(play(Intervals(tables, ""), history[case]), history[case])) for case in tables}
    return IntervalCalibration(tables, record, bands, data_source, data_hash, model_hash)


def inside(played: Iterable[Interval | None], forecasts: Forecasts) -> Iterator[bool]:
    """Yield of each truth that has an interval whether it lies inside."""
    for interval, truth in zip(played, forecasts.truths.tolist(), strict=True):
        if interval is not None and not math.isnan(interval.lower) and not math.isnan(truth):
            yield interval.holds(truth)


def table_of(case: Case, forecasts: Forecasts) -> ScoreTable | None:
    """Return the scores of one case, each relative to the memory of those known before it; None if they are too few."""
    known = ~np.isnan(forecasts.predictions) & ~np.isnan(forecasts.truths)
    if known.sum() < MIN_SCORES:
        return None
    predicted = forecasts.predictions[~np.isnan(forecasts.predictions)]
    offset, edges = OFFSET_SHARE * float(np.median(predicted)), tuple(np.quantile(predicted, EDGE_SHARES).tolist())
    scores = _scores(forecasts, offset)
    typical = float(np.mean(scores[known]))
    relative = scores / _factors(case, scores, forecasts, typical)
    levels = np.searchsorted(edges, forecasts.predictions, side="right")
    chosen = [relative[known & (levels == level)] for level in range(len(LEVELS))]
    quantiles = tuple(_quantiles(level if len(level) >= MIN_LEVEL_SCORES else relative[known]) for level in chosen)
    return ScoreTable(offset, edges, typical, float(np.mean(scores[known] ** 2)), quantiles, tuple(map(len, chosen)))


def _scores(forecasts: Forecasts, offset: float) -> Floats:
    pairs = zip(forecasts.predictions.tolist(), forecasts.silent.tolist(), strict=True)
    scales = np.array([scale_of(offset, prediction, silent=silent) for prediction, silent in pairs])
    return np.asarray(np.abs(forecasts.truths - forecasts.predictions) / scales, dtype=np.float64)


def _factors(case: Case, scores: Floats, forecasts: Forecasts, typical: float) -> Floats:
    """Return what each hour's interval would have been widened by, from the truths known before it."""
    memory, factors = typical, np.empty(len(scores))
    waiting: deque[int] = deque()
    for row, hour in enumerate(forecasts.hours.tolist()):
        while waiting and forecasts.hours[waiting[0]] + max(forecasts.delay_hours, 1) <= hour:
            memory = remembered(memory, float(scores[waiting.popleft()]))
        factors[row] = memory_factor(case, memory, typical)
        if not math.isnan(scores[row]):
            waiting.append(row)
    return factors


def _quantiles(scores: Floats) -> tuple[float, ...]:
    shares = np.linspace(0.5, SHARE_BOUNDS[0], N_QUANTILES)
    return tuple(np.quantile(scores, 1.0 - shares, method="weibull").tolist())


def play(live: Intervals, forecasts: Forecasts) -> list[Interval | None]:
    """Return the interval of each hour that has a prediction, as the stream would have published it; None elsewhere."""
    published: list[Interval | None] = []
    waiting: deque[tuple[int, float, Interval | None, float]] = deque()
    columns = (forecasts.hours, forecasts.predictions, forecasts.truths, forecasts.silent)
    for hour, prediction, truth, silent in zip(*(column.tolist() for column in columns), strict=True):
        while waiting and waiting[0][0] + max(forecasts.delay_hours, 1) <= hour:
            _learn(live, *waiting.popleft())
        interval = None if math.isnan(prediction) else live.around(hour, prediction, silent=silent)
        published.append(interval)
        if not math.isnan(truth):
            waiting.append((hour, prediction, interval, truth))
    return published


def _learn(live: Intervals, hour: int, prediction: float, interval: Interval | None, truth: float) -> None:
    if interval is None:
        live.know(hour)
    else:
        live.learn(hour, prediction, interval, truth)


def track_record(tables: Mapping[Case, ScoreTable], forecasts: Forecasts) -> TrackRecord:
    """Return how far estimates of weekly errors were from the realised ones: each made before its week's truths."""
    weeks = weekly_errors(play(Intervals(tables, ""), forecasts), forecasts)
    errors = [abs(estimated - realised) / realised for estimated, realised in weeks if realised > 0]
    return TrackRecord(float(np.mean(errors)) if errors else math.nan, len(errors))


def weekly_errors(played: list[Interval | None], forecasts: Forecasts) -> list[tuple[float, float]]:
    """Return the estimated and the realised RMSE of each week of the forecasts that has truths enough."""
    expected = np.array([math.nan if each is None else each.expected_square for each in played])
    squares = (forecasts.truths - forecasts.predictions) ** 2
    weeks = []
    for start in range(0, len(squares) - WEEKLY_HOURS + 1, WEEKLY_HOURS):
        rows = slice(start, start + WEEKLY_HOURS)
        known = ~np.isnan(squares[rows]) & ~np.isnan(expected[rows])
        if known.sum() >= MIN_WEEK_TRUTHS:
            means = (np.mean(values[rows][known]) for values in (expected, squares))
            weeks.append((math.sqrt(next(means)), math.sqrt(next(means))))
    return weeks


def write(calibration: IntervalCalibration, folder: Path) -> None:
    """Write the file."""
    write_atomically(folder / INTERVALS_NAME, calibration.to_bytes())


def summary(calibration: IntervalCalibration, folder: Path) -> list[str]:
    """Return the lines that say what was written."""
    names = {"prompt": "truth in the row", "late": "truth late"}
    lines = [f"{folder / INTERVALS_NAME}: {intervals.COVERAGE:.0%} intervals, and errors estimated before their truth"]
    for case, table in calibration.tables.items():
        record = calibration.track_record[case]
        estimate = f"weekly RMSE {record.mean_error:.0%} off over {record.weeks} weeks of history"
        lines.append(f"  {names[case]}: {sum(table.n):,} scores; {estimate}")
    absent = [names[case] for case in names if case not in calibration.tables]
    return lines + [f"  {name}: too few truths, no intervals" for name in absent]
