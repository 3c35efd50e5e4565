"""The soak's judge goes red where something grows, and stays green beside noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from lab.proof.soak import Sample, flat, grown

#: An hour's samples, the settling left out.
SECONDS = np.arange(1_200, 3_600, 5)


def samples(
    megabytes: Callable[[float], float] = lambda at: 100.0,
    descriptors: Callable[[float], int] = lambda at: 23,
    threads: Callable[[float], int] = lambda at: 6,
) -> list[Sample]:
    noise = np.random.default_rng(1).normal(0.0, 0.3, len(SECONDS))
    return [
        Sample(at, megabytes(at) + extra, descriptors(at), threads(at), 350.0)
        for at, extra in zip(SECONDS.tolist(), noise.tolist(), strict=True)
    ]


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (samples(megabytes=lambda at: 100.0 + 2.0 * at / 3_600), "memory"),
        (samples(descriptors=lambda at: 23 + int(at / 500)), "descriptors"),
        (samples(threads=lambda at: 6 + int(at / 900)), "threads"),
    ],
)
def test_flat_what_grows_is_named(made: Sequence[Sample], word: str) -> None:
    [fault] = flat(made)[0]
    assert fault.startswith(f"{word} grow")


def test_flat_noise_around_a_level_is_flat() -> None:
    faults, figures = flat(samples(descriptors=lambda at: 23 + int(at) % 2))
    assert faults == []
    assert abs(float(str(figures["MB an hour"]))) < 0.5


def test_grown_slow_minutes_of_a_busy_machine_are_no_growth() -> None:
    medians = [60.0] * 40
    for busy in (25, 26, 28, 31, 32, 33, 36):
        medians[busy] = 900.0
    assert grown(medians) == []


def test_grown_a_consumer_that_gets_slower_is_seen_beside_a_busy_beginning() -> None:
    medians = [50.0 + 2.0 * minute for minute in range(40)]
    for busy in (1, 2, 5):
        medians[busy] = 900.0
    [fault] = grown(medians)
    assert fault.startswith("latency grows")
