"""Wait for the prediction service, however long it is away, without leaving the group and without advancing an offset."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from typing import TypeVar

from airquality.ground.errors import AirQualityError
from airquality.metrics import ConsumerMetrics
from airquality.model.predictor import Answers, FeatureRows
from airquality.records import RowAnswer, Served
from airquality.stream.limits import Limits, Stopped
from airquality.stream.patience import Patience
from airquality.stream.ports import Service

T = TypeVar("T")

logger = logging.getLogger("consumer")


class PartitionLost(Exception):
    """The group took a partition away while its rows waited for the prediction service; its new owner reads them again."""


class PatientService:
    """The prediction service, asked again with back-off until it answers.

    Args:
        service: The service.
        patience: How long to pause, and which errors no waiting mends.
        metrics: Shows the wait.
        limits: End the wait.
        clock: Monotonic seconds.
        wait: Passes a moment in the group without taking records; returns the partitions owned now.
        note_served: Called with what another model says of itself, before any of its predictions is judged.
    """

    def __init__(
        self,
        service: Service,
        patience: Patience,
        metrics: ConsumerMetrics,
        limits: Limits,
        clock: Callable[[], float],
        wait: Callable[[], frozenset[int]],
        note_served: Callable[[Served], None],
    ) -> None:
        self._service = service
        self._patience = patience
        self._metrics = metrics
        self._limits = limits
        self._clock = clock
        self._wait = wait
        self._note_served = note_served
        self._version = ""  # of the model that was last asked what it is

    def check(self) -> Served:
        """Return what the served model says of itself; raises as :meth:`begin`, but ``PartitionLost``."""
        served = self._asked(self._service.check, None)
        self._version = served.version
        return served

    def begin(self, asked: FeatureRows) -> Answers:
        """Ask what the model says of each row, and return what waits for it.

        Waiting raises:
            Stopped: a stop was asked for meanwhile, or the time was up.
            AirQualityError: no waiting mends it.
            PartitionLost: the group took the rows' partition away meanwhile.
        """
        first = self._service.begin(asked)
        return lambda: self._answers(asked, first)

    def _answers(self, asked: FeatureRows, first: Answers) -> Sequence[RowAnswer]:
        attempts: Iterator[Answers] = chain((first,), map(self._service.begin, repeat(asked)))
        answers = self._asked(lambda: next(attempts)(), asked.partition)
        if any(isinstance(answer, tuple) and answer[1] != self._version for answer in answers):
            self._ask_who_serves()
        return answers

    def _ask_who_serves(self) -> None:
        """Ask what the model is that predicts now: its alias was moved. Without an answer it is asked with the next rows."""
        try:
            served = self._service.check()
        except AirQualityError as error:
            logger.warning("another model predicts, and which one is not known yet: %s", error)
            return
        if served.version != self._version:
            logger.info("model version %s predicts now, in place of %s", served.version, self._version)
            self._version = served.version
            self._note_served(served)

    def _asked(self, ask: Callable[[], T], partition: int | None) -> T:
        while True:
            try:
                answer = ask()
            except AirQualityError as error:
                pause = self._patience.pause_seconds(error)
                logger.warning("%s; no row is lost, trying again in %.1f s", error, pause)
                self._metrics.paused.set(1)
                self._hold(pause, partition)
            else:
                self._metrics.paused.set(0)
                self._patience.has_worked = True
                return answer

    def _hold(self, seconds: float, partition: int | None) -> None:
        """Wait in the group without taking records."""
        until = self._clock() + seconds
        while self._clock() < until:
            if self._limits.out_of_time(self._clock()):
                raise Stopped(
                    "stopped while the prediction service did not answer: what was published stays published, "
                    "the other rows wait in Kafka for the next start"
                )
            owned = self._wait()
            if partition is not None and partition not in owned:
                logger.info("partition %d went to another consumer while its rows waited", partition)
                raise PartitionLost
