"""What the last release left in Kafka is read by this one, or refused in one sentence: never a traceback, never in silence.

The fixtures are of simulated stations; ``tests/release_state.py`` says how they are made.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airquality.ground.errors import Refused
from airquality.model import features
from airquality.stream import snapshots
from tests import release_state
from tests.release_state import HOURS_AFTER, HOURS_BEFORE, STATIONS
from tests.simulated_kafka import predicted, reading, rows_of
from tests.worker_rig import START, STATE, Rig

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(params=sorted(FIXTURES.glob("release-*.json.gz")), ids=lambda path: path.name)
def upgraded(rig: Rig, request: pytest.FixtureRequest) -> Rig:
    """This release's worker over what a release left, with the hours that follow."""
    release_state.read(request.param, rig.kafka)
    for hour in range(HOURS_BEFORE, HOURS_BEFORE + HOURS_AFTER):
        for station in STATIONS:
            rig.send(hour, 1, station)
    return rig


def written_as(rig: Rig) -> int:
    """Return the format that the release's snapshots say they have."""
    return int(_line(rig)["format"])


def _line(rig: Rig) -> dict[str, Any]:
    """Return what the first snapshot says beside its arrays."""
    document: dict[str, Any] = json.loads(zlib.decompress(rig.kafka.log(STATE)[0].value or b"").partition(b"\n")[0])
    return document


def expected(station: int) -> list[float]:
    """Return what a worker that never ended predicts of the hours after."""
    rows = [reading(station, START + hour) for hour in range(HOURS_BEFORE + HOURS_AFTER)]
    matrix = features.batch(np.array([row.hour for row in rows]), np.array([row.values for row in rows]))[HOURS_BEFORE:]
    answers = predicted(rows_of(matrix))
    return [answer[0] for answer in answers if isinstance(answer, tuple)]


def test_state_of_a_release_goes_on_as_if_nothing_had_changed_or_is_refused(upgraded: Rig) -> None:
    if written_as(upgraded) != snapshots.FORMAT:
        with pytest.raises(Refused, match="another release"):
            upgraded.worker.run()
        return
    upgraded.worker.run()
    counts = upgraded.worker.counts
    assert counts.rows_in == len(STATIONS) * (HOURS_BEFORE + HOURS_AFTER)
    assert counts.warmup == len(STATIONS) * 168
    assert counts.predictions == counts.rows_in - counts.warmup
    for station in STATIONS:
        made = [p.prediction for p in upgraded.predictions() if p.station_id == f"station_{station}"]
        assert made[-HOURS_AFTER:] == expected(station)


@pytest.mark.parametrize("change", [{"format": snapshots.FORMAT + 1}, {"monitor": {}}], ids=["format", "shape"])
def test_state_of_another_shape_is_refused_in_one_sentence(upgraded: Rig, change: dict[str, object]) -> None:
    log = upgraded.kafka.log(STATE)
    log[0] = log[0]._replace(value=zlib.compress(json.dumps(_line(upgraded) | change).encode()))
    with pytest.raises(Refused, match=r"the snapshot of 'station_\d' .* cannot be read .*another release") as caught:
        upgraded.worker.run()
    assert "\n" not in str(caught.value)
