"""Frozen objects as plain documents, and back: what a snapshot, a file or a record holds of a dataclass.

A document is made of dicts, lists, texts, numbers, booleans, None and numpy arrays. NaN in a field declared ``float`` is
None there, because JSON has no NaN.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, partial
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Document = Mapping[str, Any]
T = TypeVar("T")
_PLAIN = frozenset((str, int, bool, type(None), np.ndarray))


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
    if type(value) in _PLAIN:  # nearly all of what a snapshot holds
        return value
    if is_dataclass(value):
        return {name: plain(getattr(value, name)) for name in _names(cast(Any, type(value)))}
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def restored(kind: type[T], document: Document) -> T:
    """Return the object of type ``kind`` whose :func:`plain` this is.

    Raises:
        KeyError: a field is absent that has no default.
        TypeError, ValueError: a field holds something else.
    """
    return kind(**{name: read(document[name]) for name, read in _readers(cast(Any, kind)).items() if name in document})


@cache
def _readers(kind: type[Any]) -> dict[str, Callable[[Any], Any]]:
    """Return, by field, what makes its value of a document's; a snapshot holds thousands, so types are looked at once."""
    hints = typing.get_type_hints(kind)
    return {field.name: _reader(hints[field.name]) for field in fields(kind)}


@cache
def _reader(hint: Any) -> Callable[[Any], Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        known = [option for option in arguments if option is not type(None)]
        return _or_none(_reader(known[0])) if len(known) == 1 else _as_it_is
    if is_dataclass(hint):
        return partial(restored, cast(type[Any], hint))
    if origin is tuple:
        return _each(_reader(arguments[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        read = _reader(arguments[1])
        return lambda value: {name: read(item) for name, item in value.items()}
    return _number if hint is float else _as_it_is


def _each(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return tuple if read is _as_it_is else lambda value: tuple(map(read, value))


def _or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _number(value: Any) -> Any:
    return math.nan if value is None else value


def _as_it_is(value: Any) -> Any:
    return value


def immutable(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy that cannot be written."""
    copy = np.array(array)
    copy.setflags(write=False)
    return copy
