from __future__ import annotations

import math

import numpy as np

from airquality.data.arrivals import unpacked
from airquality.records import RAW_COLUMNS, Reading


def test_unpacked_hours_have_the_bits_of_their_readings() -> None:
    values = np.random.default_rng(1).lognormal(size=(3, len(RAW_COLUMNS)))
    values[0, :3] = math.nan, -0.0, 5e-324
    packed = [Reading("station", hour, tuple(row)).packed() for hour, row in enumerate(values.tolist())]
    assert unpacked(packed).tobytes() == values.tobytes()
    assert unpacked([]).shape == (0, len(RAW_COLUMNS))
