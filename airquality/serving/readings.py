"""Raw readings of one station as a caller sends them, in JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airquality.ground.errors import InvalidRecord
from airquality.records import HISTORY_HOURS, RAW_COLUMNS, Reading, isoformat, reading_of
from airquality.serving import bodies
from airquality.serving.problems import RequestError, invalid, named

MAX_READINGS = 1_000
#: The newest reading and the hours before it that its features reach back to.
WINDOW_HOURS = HISTORY_HOURS + 1
_STATION = "by hand"

#: Returns the feature row of the newest of some readings, shape ``(1, n_features)``, as the stream computes it; None if a
#: silence of 168 hours or more lies behind it, after which the stream warms up again.
NewestFeatures = Callable[[Sequence[Reading]], NDArray[np.float64] | None]


def parse(body: bytes, content_type: str) -> list[Reading]:
    """Return the readings of a body, which is CSV or JSON by its content type, else by its first character.

    Raises:
        RequestError: 422, naming the first reading that cannot be read; 413 if there are more than :data:`MAX_READINGS`.
    """
    rows = _csv_rows(body) if _is_csv(body, content_type) else _json_rows(body)
    if not rows:
        raise invalid("there are no readings")
    if len(rows) > MAX_READINGS:
        message = f"{len(rows)} readings are too many: at most {MAX_READINGS}, of which the last {WINDOW_HOURS} hours count"
        raise RequestError(413, "invalid_request", message)
    readings = [_reading(index, row) for index, row in enumerate(rows)]
    stations = {reading.station_id for reading in readings}
    if len(stations) > 1:
        raise invalid(f"the readings are of {len(stations)} stations; send those of one", stations=named(sorted(stations)))
    return readings


def newest_row(readings: list[Reading], newest_features: NewestFeatures) -> tuple[NDArray[np.float64], int]:
    """Return the feature row of the last reading, and how many readings of its 169 hours it was computed from.

    Raises:
        RequestError: 422: the readings are not in time order, contradict each other, or do not reach back 168 hours. The
            stream predicts nothing from fewer either, so no published error says how good such a prediction would be.
    """
    last = readings[-1].hour
    try:
        row = newest_features(readings) if readings[0].hour <= last - HISTORY_HOURS else None
    except InvalidRecord as error:
        raise invalid(f"the readings must be in time order, one an hour: {error}") from error
    if row is None:
        raise invalid(
            f"a prediction for {isoformat(last)} needs the {HISTORY_HOURS} hours before it: the first reading must be of "
            f"{isoformat(last - HISTORY_HOURS)} or earlier (it is of {isoformat(readings[0].hour)}), with no silence of "
            f"{HISTORY_HOURS} hours or more in between; single hours and values may be missing",
            needed_from=isoformat(last - HISTORY_HOURS),
        )
    return row, len({reading.hour for reading in readings if reading.hour > last - WINDOW_HOURS})


def _is_csv(body: bytes, content_type: str) -> bool:
    if "csv" in content_type or "json" in content_type:
        return "csv" in content_type
    return body.lstrip()[:1] not in (b"{", b"[")


def _json_rows(body: bytes) -> list[dict[str, Any]]:
    request = bodies.json_object(body)
    rows = bodies.field(request, "readings", list)
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise invalid(f"reading {index} must be a JSON object", row=index)
    names = len(request) + sum(map(len, rows))
    bodies.refuse_repeated_names(body, names, bodies.colons_in(value for row in rows for value in row.values()))
    return list(rows)


def _csv_rows(body: bytes) -> list[dict[str, Any]]:
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        header, *cells = [line for line in lines if line] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise invalid(f"the body is neither JSON nor CSV: {error}") from error
    absent = [name for name in ("DateTime", *RAW_COLUMNS) if header.count(name) != 1]
    if absent:
        raise invalid("the first line must name each column once, separated by commas", absent=named(absent))
    for index, line in enumerate(cells):
        if len(line) != len(header):
            raise invalid(f"reading {index} has {len(line)} cells, the header {len(header)}", row=index)
    return [{name: _cell(name, text) for name, text in zip(header, line, strict=True)} for line in cells]


def _cell(name: str, text: str) -> object:
    """Return a cell as JSON would hold it; what is no number stays a text, which is then refused by name."""
    if name not in RAW_COLUMNS:
        return text
    try:
        return float(text) if text.strip() else None
    except ValueError:
        return text


def _reading(index: int, row: dict[str, Any]) -> Reading:
    try:
        return reading_of({"station_id": _STATION, **row})
    except InvalidRecord as error:
        raise invalid(f"reading {index}: {error}", row=index) from error
