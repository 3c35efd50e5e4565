"""Shadows beside the prediction service: asked the same rows, compared, never published, never able to end the stream."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pytest

from airquality.ground.errors import InvalidRecord
from airquality.model.predictor import Answers, FeatureRows
from airquality.records import RowAnswer, Served
from airquality.stream import shadows
from airquality.stream.ports import Service
from airquality.stream.shadows import with_shadows

REFUSED = InvalidRecord("unpredictable", "no value")


class Base:
    """A service that says 1.0 of each row but the first, which it refuses."""

    def check(self) -> Served:
        raise AssertionError("nobody asks")

    def begin(self, asked: FeatureRows) -> Answers:
        return lambda: [REFUSED, *[(1.0, "3")] * (len(asked) - 1)]


class Toy:
    """A shadow that says 1.5 of each row."""

    def predict(self, asked: FeatureRows) -> Sequence[RowAnswer]:
        return [(1.5, "toy")] * len(asked)


class Broken:
    """A shadow that fails."""

    def predict(self, asked: FeatureRows) -> Sequence[RowAnswer]:
        raise ZeroDivisionError


def rows(n: int) -> FeatureRows:
    return FeatureRows(np.zeros((n, 2)), ["roof"] * n, range(n), range(n), partition=0)


def shadowed(monkeypatch: pytest.MonkeyPatch, *places: str) -> Service:
    monkeypatch.setattr(shadows, "SHADOWS", places)
    return with_shadows(Base())


def test_shadow_one_line_in_the_list_is_asked_and_compared_and_not_published(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = shadowed(monkeypatch, "tests.test_shadows:Toy")
    with caplog.at_level(logging.INFO, "consumer"):
        assert service.begin(rows(1_001))() == Base().begin(rows(1_001))()
    assert caplog.messages == ["shadow tests.test_shadows:Toy: 0.5000 mg/m3 from the service on average, over 1000 rows"]


@pytest.mark.parametrize("place", ["tests.test_shadows:Broken", "tests.nowhere:Toy"])
def test_shadow_that_fails_is_off_and_said_once_while_predictions_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    service = shadowed(monkeypatch, place)
    with caplog.at_level(logging.INFO, "consumer"):
        assert [service.begin(rows(n))() for n in (2, 3)] == [Base().begin(rows(n))() for n in (2, 3)]
    assert caplog.messages == [f"the shadow {place} failed and is off; predictions go on"]


def test_with_shadows_none_registered_is_the_service_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadows, "SHADOWS", ())
    service = Base()
    assert with_shadows(service) is service
