"""One served model and what it answers, without a transport: bytes in, answers out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from airquality.ground.errors import AirQualityError
from airquality.ground.settings import Settings
from airquality.ground.shown import shown
from airquality.metrics import ApiMetrics
from airquality.model import features, registry
from airquality.model.model import Model
from airquality.model.registry import RegisteredModel
from airquality.model.rows import ANSWERED, checksum
from airquality.records import TARGET_UNIT, isoformat
from airquality.serving import bodies, readings
from airquality.serving.columns import Columns
from airquality.serving.problems import RequestError, invalid
from airquality.serving.readings import NewestFeatures
from airquality.serving.slots import Slot

#: A refusal names at most so many of the rows the model has no value for; the caller leaves them out and asks again.
_NAMED_ROWS = 1_000
#: A registry that takes longer to give its champion is said to.
SLOW_SECONDS = 60.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Answering:
    """The model that answers, and how rows are read for it."""

    registered: RegisteredModel
    columns: Columns


class ServedModel:
    """A model of the registry: which version is loaded and why no newer one, what it answers, and its own metrics."""

    def __init__(self, slot: Slot, settings: Settings, newest_features: NewestFeatures) -> None:
        self.slot = slot
        self.settings = slot.settings(settings)
        self.registry = CollectorRegistry()
        self.metrics = ApiMetrics(self.registry)
        self.why_not_ready = "the model is being loaded"
        self._newest_features = newest_features
        self._answering: _Answering | None = None

    @property
    def loaded(self) -> RegisteredModel | None:
        """The version that answers now; None before the first one is loaded."""
        return self._answering.registered if self._answering else None

    def serve(self, registered: RegisteredModel) -> None:
        """Answer with this model from the next request on."""
        self.metrics.model.clear()
        self.metrics.model.labels(registered.name, registered.version).set(1)
        self._answering = _Answering(registered, Columns(registered.model.card.features, self.slot.max_rows))
        logger.info(
            "serving %s version %s (%s data)", registered.name, registered.version, registered.model.card.data_source
        )

    async def follow(self) -> None:
        """Serve whatever the alias points at, until cancelled; requests go on meanwhile."""
        while True:
            refreshing = asyncio.ensure_future(asyncio.to_thread(self.refresh))
            await asyncio.wait([refreshing], timeout=SLOW_SECONDS)
            if not refreshing.done():  # no client's timeout ends an answer that comes in drops
                self._stay(f"the model registry at {self.settings.mlflow_tracking_uri} has taken {SLOW_SECONDS:g} s so far")
            await refreshing
            await asyncio.sleep(self.settings.model_poll_seconds if self.loaded else 1.0)

    def refresh(self) -> None:
        """Load the alias's version if another is served; blocking. On failure keep what is served, and say so."""
        try:
            version = registry.champion_version(self.settings)
            if version is None:
                raise registry.no_champion(self.settings)
            if self.loaded is None or version != self.loaded.version:
                self.serve(registry.load(self.settings, version))
            self.metrics.registry_unreachable.set(0)
        except AirQualityError as error:
            self._stay(str(error))
        except Exception as error:
            self._stay(f"{type(error).__name__}: {error}")
            logger.debug("", exc_info=True)

    def _stay(self, why: str) -> None:
        self.why_not_ready = shown(why)
        self.metrics.registry_unreachable.set(1)
        logger.warning("%s; %s", self.why_not_ready, "still serving the version before" if self.loaded else "not ready")

    def predict(self, body: bytes) -> dict[str, Any]:
        """Answer ``{"features": {name: number | null}}``."""
        with self._observed():
            answering = self._require_model()
            request = bodies.json_object(body)
            row = answering.columns.row(body, request, bodies.field(request, "features", dict))
            return {"prediction": self._predict(answering, row)[0], "model_version": answering.registered.version}

    def predict_batch(self, body: bytes) -> dict[str, Any]:
        """Answer ``{"features": [names], "rows": [[number | null, ...], ...]}``, names once and a list of values a row."""
        with self._observed():
            answering = self._require_model()
            request = bodies.json_object(body)
            names, rows = bodies.field(request, "features", list), bodies.field(request, "rows", list)
            bodies.refuse_repeated_names(body, len(request), bodies.colons_in(names))
            return self._batch(answering, answering.columns.ordered(names, rows))

    def predict_rows(self, body: bytes) -> dict[str, Any]:
        """Answer what :meth:`predict_batch` answers, for the rows of a binary body (:mod:`airquality.model.rows`).

        Every answer, a refusal too, says which body it is of: in answers the rows have no names.
        """
        answered = {ANSWERED: checksum(body)}
        with self._observed():
            answering = self._require_model()
            try:
                names, matrix = bodies.float64_rows(body, self.slot.max_rows)
                return self._batch(answering, answering.columns.ordered(names, matrix)) | answered
            except RequestError as error:
                error.more |= answered
                raise

    def predict_from_readings(self, body: bytes, content_type: str = "") -> dict[str, Any]:
        """Answer ``{"readings": [{"DateTime": ..., the 13 columns}, ...]}``, or the same as CSV, for the last of them."""
        with self._observed():
            answering = self._require_model()
            sent = readings.parse(body, content_type)
            row, hours_used = readings.newest_row(sent, self._newest_features)
            return {
                "prediction": self._predict(answering, answering.columns.ordered(list(features.NAMES), row))[0],
                "unit": TARGET_UNIT,
                "DateTime": isoformat(sent[-1].hour),
                "hours_used": hours_used,
                "missing_features": [name for name, value in zip(features.NAMES, row[0], strict=True) if np.isnan(value)],
                "model_version": answering.registered.version,
            }

    def _require_model(self) -> _Answering:
        if self._answering is None:
            raise RequestError(503, "model_not_loaded", f"no model is loaded: {self.why_not_ready}")
        return self._answering

    def _batch(self, answering: _Answering, matrix: NDArray[np.float64]) -> dict[str, Any]:
        return {"predictions": self._predict(answering, matrix), "model_version": answering.registered.version}

    def _predict(self, answering: _Answering, matrix: NDArray[np.float64]) -> list[float]:
        predictions = _scored(answering.registered.model, matrix)
        self.metrics.value.set(predictions[-1])
        missing = np.isnan(matrix).sum(axis=1)
        self.metrics.missing.set(int(missing[-1]))
        self.metrics.missing_total.inc(int(missing.sum()))
        self.metrics.predictions.inc(len(predictions))
        return predictions

    @contextmanager
    def _observed(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        except RequestError:
            raise  # counted where it is answered, with those of the transport
        except Exception:
            self.metrics.errors.labels("internal").inc()
            raise
        finally:
            self.metrics.latency.observe(time.perf_counter() - started)


def describe(loaded: RegisteredModel) -> dict[str, Any]:
    """Return what ``GET /version`` answers."""
    card = loaded.model.card
    return {
        "model_name": loaded.name,
        "model_version": loaded.version,
        "model_hash": loaded.model.hash,
        "features_hash": card.features_hash,
        "data_hash": card.data_hash,
        "data_source": card.data_source,
        "target": card.target,
        "history_hours": card.history_hours,
        "scores": card.scores,
    }


def _scored(model: Model, matrix: NDArray[np.float64]) -> list[float]:
    """Predict, or refuse a row the target transform is not defined for (its base is negative): its answer would be null."""
    with np.errstate(invalid="ignore"):
        predictions = model.predict(matrix)
    if not np.isfinite(predictions).all():
        rows = np.flatnonzero(~np.isfinite(predictions))[:_NAMED_ROWS].tolist()
        raise invalid(f"row {rows[0]} has no finite prediction", row=rows[0], rows=rows, reason="unpredictable")
    scored: list[float] = predictions.tolist()
    return scored
