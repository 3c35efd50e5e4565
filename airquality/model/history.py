"""What a feature can be made of: the vocabulary in which features are declared.

A *window* of W hours is the W hours before the row, hour t excluded.
"""

from __future__ import annotations

from functools import cached_property

from airquality.model import terms
from airquality.model.channels import CALIBRATED, LOG_TARGET, TRUTH_CHANNELS
from airquality.model.past_reader import covering_nodes
from airquality.model.terms import Count, Lag, Largest, Last, Mean, Now, Term, Wave
from airquality.records import HISTORY_HOURS

_SAME_HOUR_LAGS = range(24, HISTORY_HOURS + 1, 24)


class History:
    """The 168 hours before a row, and the hour itself, by channel (see :data:`airquality.model.channels.CHANNELS`).

    Each method returns a term, which says what is computed of every row.
    """

    def now(self, channel: str) -> Term:
        """Return the channel at hour t; none of what the target makes: that is the truth."""
        if channel in TRUTH_CHANNELS:
            raise ValueError(f"{channel} of hour t is what is to be predicted")
        return Now(channel)

    def lag(self, channel: str, hours: int) -> Term:
        """Return the channel ``hours`` (1 to 168) before the row."""
        return Lag(channel, hours)

    def last(self, channel: str) -> Term:
        """Return the most recent measured value before the row; NaN if the 168 hours hold none."""
        return Last(channel)

    def mean(self, channel: str, window: int) -> Term:
        """Return the mean of the window's measured values; NaN if none."""
        return Mean(channel, window)

    def count(self, channel: str, window: int) -> Term:
        """Return how many hours of the window were measured."""
        return Count(channel, window)

    def std(self, channel: str, window: int) -> Term:
        """Return the population standard deviation of the window, to about 1e-7; NaN below two values.

        The channel must have its square beside it.
        """
        mean, mean_square = self.mean(channel, window), self.mean(f"{channel}_squared", window)
        return terms.deviation(self.count(channel, window), mean_square - mean * mean)

    def highest(self, channel: str, window: int) -> Term:
        """Return the window's largest value; NaN if none."""
        newer, older = (Largest(channel, 1, *node) for node in covering_nodes(window))
        return terms.larger_known(newer, older)

    def lowest(self, channel: str, window: int) -> Term:
        """Return the window's smallest value; NaN if none."""
        newer, older = (Largest(channel, -1, *node) for node in covering_nodes(window))
        return -1.0 * terms.larger_known(newer, older)  # a NaN keeps its sign

    def same_hour(self, channel: str) -> Term:
        """Return the mean over the same hour of the last seven days; NaN if none was measured."""
        return terms.mean_of_known([self.lag(channel, hours) for hours in _SAME_HOUR_LAGS])

    def wave(self, cycle: str, wave: str) -> Term:
        """Return the ``sin`` or ``cos`` of the place of hour t in a cycle: ``hour``, ``weekday`` or ``month``."""
        return Wave(cycle, wave)

    def calibrated(self, name: str, ratio: Term) -> Term:
        """Return the target's log of hour t as sensor ``name`` tells it, given its log ratio to that sensor."""
        return CALIBRATED[name] * self.now(f"log_{name}") + ratio

    @cached_property
    def base(self) -> Term:
        """The target's log of hour t as the last known ratios tell it; where no sensor reports, as its own past does.

        NaN only where the 168 hours hold no target at all.
        """
        estimate = terms.mean_of_known([self.calibrated(name, self.last(f"ratio_{name}")) for name in CALIBRATED])
        past = terms.mean_of_known([self.last(LOG_TARGET), self.same_hour(LOG_TARGET)])
        return terms.first_known(estimate, past)

    @property
    def base_level(self) -> Term:
        """The base in the unit of the target."""
        return terms.exp(self.base)
