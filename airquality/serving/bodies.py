"""Request bodies as numbers: parsed by orjson into one float64 matrix, without a DataFrame or validation per field."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from airquality.model import rows
from airquality.model.rows import MAX_ROWS
from airquality.serving.problems import RequestError, invalid, named

#: Nobody else is answered while a body is parsed: 8 MB of empty arrays would take seconds, 2,000 rows take 20 ms.
_MAX_VALUES = MAX_ROWS * 256
_OTHER_CONTAINERS = 16
_FEW_BYTES = 32 * 1024

_NUMBER_TYPES = {float, int, type(None)}
_FLOAT32_MAX = float(np.finfo(np.float32).max)
#: Some value of any rows is larger, a calendar feature at least; of other kinds of numbers read as float64 often none is.
_NEVER_LARGEST = 1e-100
#: A larger body in which names seem to repeat is refused without a second look, which would take a second.
_MAX_SECOND_LOOK_BYTES = 1024 * 1024


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body; raises ``RequestError`` 422, or 413 before a body of too many values is parsed."""
    many_values = len(body) > _MAX_VALUES and _count(body, b",") > _MAX_VALUES
    if many_values or _count(body, b"[") + _count(body, b"{") > MAX_ROWS + _OTHER_CONTAINERS:
        raise RequestError(413, "invalid_request", f"too many values: at most {MAX_ROWS} rows a request")
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = "" if body.isascii() else f" (binary rows need Content-Type: {rows.MEDIA_TYPE})"
        raise invalid(f"the body is not JSON: {error}{hint}") from error
    if not isinstance(request, dict):
        raise invalid("the body must be a JSON object")
    return request


def _count(body: bytes, character: bytes) -> int:
    """Return how often a character occurs in a body: numpy counts eight times as fast where there is much to count."""
    if len(body) < _FEW_BYTES:
        return body.count(character)
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == ord(character)))


def field(request: dict[str, Any], name: str, kind: type) -> Any:
    """Return a field of a request, which must be an object (``dict``) or an array (``list``)."""
    value = request.get(name)
    if not isinstance(value, kind):
        raise invalid(f"{name!r} must be a JSON {'object' if kind is dict else 'array'}")
    return value


def refuse_repeated_names(body: bytes, names: int, colons: int = 0) -> None:
    """Refuse a body in which an object has a name twice: which value is meant cannot be known.

    A parser keeps the last one, so the colons are counted: there is one for each of the ``names`` that were parsed, besides
    the ``colons`` in texts (:func:`colons_in`). Only where that does not come out is the body looked at again.
    """
    if b"\\" not in body and _count(body, b":") == names + colons:
        return
    if len(body) > _MAX_SECOND_LOOK_BYTES:
        raise invalid("a name seems to be there twice: which value is meant cannot be known")
    try:
        json.loads(body, object_pairs_hook=_unique)
    except RecursionError as error:
        raise invalid("the body is nested too deeply") from error


def colons_in(texts: Iterable[object]) -> int:
    """Return how many colons there are in the texts among these values."""
    return "".join(text for text in texts if isinstance(text, str)).count(":")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        raise invalid("a name is there twice: which value is meant cannot be known", repeated=named(twice))
    return found


def float64_rows(body: bytes, max_rows: int = MAX_ROWS) -> tuple[list[str], NDArray[np.float64]]:
    """Return the names and the rows of a binary body (:mod:`airquality.model.rows`), the rows read-only."""
    try:
        head, values = rows.decode(body)
    except ValueError as error:
        raise invalid(f"the body is no binary rows: {error}") from error
    request = json_object(head)
    names: list[str] = field(request, "features", list)
    refuse_repeated_names(head, len(request), colons_in(names))
    if not names or len(values) % len(names):
        raise invalid(f"{len(values)} values are no whole number of rows of {len(names)} features")
    found = _within_limits(values.reshape(-1, len(names)), max_rows)
    if 0 < np.nanmax(np.abs(found), initial=0.0) < _NEVER_LARGEST:
        raise invalid("these bytes are no little-endian float64: numbers that are big-endian, or whole, look like them")
    return names, found


def matrix(listed: Sequence[Any], width: int, max_rows: int = MAX_ROWS) -> NDArray[np.float64]:
    """Return rows of values as float64, null as NaN, shape ``(len(listed), width)``."""
    _check_number(len(listed), max_rows)
    for index, row in enumerate(listed):
        if not isinstance(row, list | tuple) or len(row) != width:
            raise invalid(f"row {index} must be an array of {width} values", row=index)
    if not set(map(type, chain.from_iterable(listed))) <= _NUMBER_TYPES:
        raise invalid("values must be numbers or null")
    return _within_limits(np.array(listed, dtype=np.float64).reshape(-1, width), max_rows)


def _within_limits(found: NDArray[np.float64], max_rows: int) -> NDArray[np.float64]:
    _check_number(len(found), max_rows)
    if (np.abs(found) > _FLOAT32_MAX).any():
        raise invalid(f"values must lie within +-{_FLOAT32_MAX:.4g}")
    return found


def _check_number(n_rows: int, max_rows: int) -> None:
    if not n_rows:
        raise invalid("there are no rows to predict")
    if n_rows > max_rows:
        raise RequestError(413, "invalid_request", f"{n_rows} rows are too many: at most {max_rows} a request")
