"""Shadows: predictors that are asked beside the prediction service. What they say is compared with it, never published.

A shadow is given the rows that the service has just answered, and the log says how far the two are apart. It cannot end the
stream: one that fails is off for the rest of this worker, which is said once. It does hold the batch up for as long as it
takes, and rows of a batch that has to be taken again are asked again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from airquality.ground import places
from airquality.model.predictor import Answers, FeatureRows
from airquality.records import TARGET_UNIT, RowAnswer, Served
from airquality.stream.ports import Service

#: A line each, ``module:NAME``: what is called without arguments and gives a ``Predictor``.
SHADOWS: tuple[str, ...] = ()
#: The log says so often, in rows, how far a shadow is from the service.
SAID_EVERY = 1_000

logger = logging.getLogger("consumer")


def with_shadows(service: Service) -> Service:
    """Return the service with the registered shadows beside it; the service itself where none is registered."""
    return Shadowed(service, [Shadow(place) for place in SHADOWS]) if SHADOWS else service


class Predictor(Protocol):
    """What a shadow is made of."""

    def predict(self, asked: FeatureRows) -> Sequence[RowAnswer]:
        """Return for each row its prediction in mg/m3 and the model version that made it, or why there is none."""


class Shadow:
    """One shadow, opened when the first rows come."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._predictor: Predictor | None = None
        self._off = False
        self._apart: list[float] = []

    def compare(self, asked: FeatureRows, answers: Sequence[RowAnswer]) -> None:
        """Ask the shadow for the rows that the service answered."""
        if self._off:
            return
        try:
            self._predictor = self._predictor or places.load(self._place)()
            self._apart += _differences(answers, self._predictor.predict(asked))
        except Exception:  # whatever is wrong with it, it is not the stream's
            logger.exception("the shadow %s failed and is off; predictions go on", self._place)
            self._off = True
        if len(self._apart) >= SAID_EVERY:
            self._say()

    def _say(self) -> None:
        n, mean = len(self._apart), sum(self._apart) / len(self._apart)
        logger.info("shadow %s: %.4f %s from the service on average, over %d rows", self._place, mean, TARGET_UNIT, n)
        self._apart = []


class Shadowed:
    """The prediction service with shadows beside it; a service."""

    def __init__(self, service: Service, shadows: Sequence[Shadow]) -> None:
        self._service = service
        self._shadows = shadows

    def check(self) -> Served:
        """Return what the served model says of itself."""
        return self._service.check()

    def begin(self, asked: FeatureRows) -> Answers:
        """Ask the service; once its answers are there the shadows are asked, too."""
        answers = self._service.begin(asked)
        return lambda: self._compared(asked, answers())

    def _compared(self, asked: FeatureRows, answers: Sequence[RowAnswer]) -> Sequence[RowAnswer]:
        for shadow in self._shadows:
            shadow.compare(asked, answers)
        return answers


def _differences(answers: Sequence[RowAnswer], shadows: Sequence[RowAnswer]) -> list[float]:
    """Return how far apart the two predictions of each row are, in the target's unit, where there are two."""
    both = zip(answers, shadows, strict=True)
    return [abs(own[0] - served[0]) for served, own in both if isinstance(served, tuple) and isinstance(own, tuple)]
