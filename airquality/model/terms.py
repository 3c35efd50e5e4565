"""Terms: what a feature is made of, said without computing it, so that all features are computed together.

A declaration (see :mod:`airquality.model.features`) writes arithmetic on terms; :mod:`airquality.model.plan` carries it out
for all rows, the same operation of many features in one numpy call. The operations, their operands and the order of both
are those of the declaration, so that the bits are, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from airquality.model.channels import Floats

#: Computes ``out``, element by element, from operands of its shape: a ufunc, or a function of an array of all of them, which
#: it may change.
Operation = np.ufunc | Callable[[Floats, Floats], None]


class Term:
    """A value of each row."""

    __slots__ = ()

    def __add__(self, other: Term | float) -> Term:
        """Add."""
        return Made(np.add, (self, term(other)))

    def __radd__(self, other: float) -> Term:
        """Add to a constant."""
        return Made(np.add, (term(other), self))

    def __sub__(self, other: Term | float) -> Term:
        """Subtract."""
        return Made(np.subtract, (self, term(other)))

    def __mul__(self, other: Term | float) -> Term:
        """Multiply."""
        return Made(np.multiply, (self, term(other)))

    def __rmul__(self, other: float) -> Term:
        """Multiply a constant."""
        return Made(np.multiply, (term(other), self))

    def __truediv__(self, other: Term | float) -> Term:
        """Divide."""
        return Made(np.divide, (self, term(other)))


#: Means of so few parts are computed in one step: further parts are unknown.
_LEAST_PARTS = 3
#: So few values are accumulated fastest in one call, more in a call for each step.
_FEW = 64
#: A count as the divisor of a mean: NaN where nothing is known.
_DIVISORS = np.array([np.nan, *range(1, 256)])


@dataclass(frozen=True, slots=True)
class Constant(Term):
    """The same number in every row."""

    value: float


class Given(Term):
    """A value that is read, not computed from other terms."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Now(Given):
    """The channel at hour t."""

    channel: str


@dataclass(frozen=True, slots=True)
class Lag(Given):
    """The channel so many hours before."""

    channel: str
    hours: int


@dataclass(frozen=True, slots=True)
class Last(Given):
    """The channel's last known value of the 168 hours before; NaN where they hold none."""

    channel: str


@dataclass(frozen=True, slots=True)
class Mean(Given):
    """The mean of the channel's measured values in the window; NaN where there are none."""

    channel: str
    window: int


@dataclass(frozen=True, slots=True)
class Count(Given):
    """How many hours of the window were measured."""

    channel: str
    window: int


@dataclass(frozen=True, slots=True)
class Largest(Given):
    """The largest known value of ``sign`` times the channel in the ``2 ** level`` hours that end ``back`` hours before."""

    channel: str
    sign: int
    level: int
    back: int


@dataclass(frozen=True, slots=True)
class Wave(Given):
    """The sine or cosine of the place of the hour in a cycle of the calendar."""

    cycle: str
    wave: str


@dataclass(frozen=True, slots=True, eq=False)
class Made(Term):
    """An operation on other terms."""

    operation: Operation
    parts: tuple[Term, ...]


def term(value: Term | float) -> Term:
    """Return the value as a term."""
    return value if isinstance(value, Term) else Constant(float(value))


def exp(value: Term) -> Term:
    """Return e to the power of the value."""
    return Made(np.exp, (value,))


def larger_known(one: Term, other: Term) -> Term:
    """Return the larger value; where one is NaN, the other."""
    return Made(np.fmax, (one, other))


def deviation(count: Term, variance: Term) -> Term:
    """Return the root of the variance: 0 where rounding made it negative, NaN where the count is below two."""
    return Made(_deviation, (count, variance))


def first_known(value: Term, otherwise: Term) -> Term:
    """Return the value; where it is NaN, the other one."""
    return Made(_first_known, (value, otherwise))


def mean_of_known(parts: Sequence[Term]) -> Term:
    """Return the mean of the parts that are known, added in their order; NaN where none is."""
    unknown = [Constant(math.nan)] * (_LEAST_PARTS - len(parts))
    return Made(_mean_of_known, (*parts, *unknown))


def _deviation(operands: Floats, out: Floats) -> None:
    count, variance = operands
    np.sqrt(np.maximum(variance, 0.0), out=out)
    np.copyto(out, np.nan, where=count < 2)


def _first_known(operands: Floats, out: Floats) -> None:
    value, otherwise = operands
    out[...] = value
    np.copyto(out, otherwise, where=np.isnan(value))


def _mean_of_known(operands: Floats, out: Floats) -> None:
    known = operands == operands
    np.copyto(operands, 0.0, where=~known)
    accumulate(np.add, operands)
    total = operands[-1] + 0.0  # as an addition to nothing: no sum is -0.0
    np.divide(total, _DIVISORS.take(np.add.reduce(known, axis=0, dtype=np.intp)), out=out)


def accumulate(pick: np.ufunc, values: Floats) -> None:
    """Replace each entry of the first axis by ``pick`` of all up to it, one after the other in their order."""
    if values[0].size < _FEW:
        pick.accumulate(values, axis=0, out=values)
    else:
        for before, value in pairwise(values):
            pick(before, value, out=value)
