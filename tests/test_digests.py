from __future__ import annotations

import zlib

import numpy as np
import pytest

from airquality.data.digests import EXACT_HOURS, REMEMBERED_HOURS, HourDigests, short

NEWEST = 300_000


def filled(n_hours: int = REMEMBERED_HOURS + 50) -> HourDigests:
    digests = HourDigests()
    for hour in range(NEWEST - n_hours + 1, NEWEST + 1):
        digests.accept(hour, 0, digest_of(hour))
    return digests


def digest_of(hour: int) -> int:
    return zlib.crc32(b"%d" % hour) or 1


def test_digests_of_13_months_take_at_most_12_kb() -> None:
    state = filled().state()
    assert state.short.nbytes + state.exact.nbytes <= 12 * 1024
    assert not state.short.flags.writeable


@pytest.mark.parametrize("age", [0, 1, EXACT_HOURS - 1, EXACT_HOURS, REMEMBERED_HOURS - 1])
def test_repeats_same_hour_again_is_known(age: int) -> None:
    digests, hour = filled(), NEWEST - age
    assert digests.repeats(hour, NEWEST, digest_of(hour))
    assert digests.accepted(hour, NEWEST)


def test_repeats_hour_too_old_is_not_known() -> None:
    hour = NEWEST - REMEMBERED_HOURS
    assert not filled().accepted(hour, NEWEST)
    assert not filled().repeats(hour, NEWEST, digest_of(hour))


def test_repeats_other_values_of_the_latest_weeks_are_never_taken_for_the_same() -> None:
    digests, hour = filled(), NEWEST - EXACT_HOURS + 1
    alike = next(d for d in range(1, 1000) if short(d) == short(digest_of(hour)) and d != digest_of(hour))
    assert not digests.repeats(hour, NEWEST, alike)


def test_repeats_other_values_of_old_hours_are_noticed_but_for_one_in_255() -> None:
    digests = filled()
    hours = range(NEWEST - 9_000, NEWEST - EXACT_HOURS)
    taken = sum(digests.repeats(hour, NEWEST, digest_of(hour + 1)) for hour in hours)
    assert taken / len(hours) < 0.01


@pytest.mark.parametrize("gap", [1, EXACT_HOURS, REMEMBERED_HOURS, 3 * REMEMBERED_HOURS])
def test_accept_hours_that_were_skipped_are_not_accepted(gap: int) -> None:
    digests = filled()
    digests.accept(NEWEST + gap + 1, gap, 7)
    newest = NEWEST + gap + 1
    skipped = np.arange(NEWEST + 1, newest)[-REMEMBERED_HOURS + 1 :]
    assert not any(digests.accepted(hour, newest) or digests.repeats(hour, newest, 7) for hour in skipped.tolist())
    assert digests.repeats(newest, newest, 7)
