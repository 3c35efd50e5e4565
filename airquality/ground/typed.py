"""Frozen objects as plain documents, and back: what a snapshot, a file or a record holds of a dataclass.

A document is made of dicts, lists, texts, numbers, booleans, None and numpy arrays. NaN in a field declared ``float`` is
None there, because JSON has no NaN.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Document = Mapping[str, Any]
T = TypeVar("T")


def plain(value: Any) -> Any:
    """Return the document of a dataclass, or of what holds some.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Point:
    ...     x: float
    ...     names: tuple[str, ...] = ()
    >>> plain(Point(math.nan, ("a",)))
    {'x': None, 'names': ['a']}
    """
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def restored(kind: type[T], document: Document) -> T:
    """Return the object of type ``kind`` whose :func:`plain` this is.

    Raises:
        KeyError: a field is absent that has no default.
        TypeError, ValueError: a field holds something else.
    """
    hints = _hints(cast(Any, kind))
    given = {field.name: document[field.name] for field in fields(cast(Any, kind)) if field.name in document}
    return kind(**{name: _value(hints[name], item) for name, item in given.items()})


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _value(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        known = [option for option in arguments if option is not type(None)]
        return None if value is None else _value(known[0], value) if len(known) == 1 else value
    if is_dataclass(hint):
        return restored(cast(type[Any], hint), value)
    if origin is tuple:
        item = arguments[0]
        return tuple(_value(item, each) for each in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {name: _value(arguments[1], item) for name, item in value.items()}
    return math.nan if hint is float and value is None else value


def immutable(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy that cannot be written."""
    copy = np.array(array)
    copy.setflags(write=False)
    return copy
