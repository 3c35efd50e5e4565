"""What the stream would take of a file, and in words what it would refuse; the same rules, for whole columns at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from airquality.data.dataset import Frame
from airquality.records import HARD_LIMITS, HOUR_LIMITS, MAX_HOURS_AHEAD, RAW_COLUMNS, hour_of

Bools = NDArray[np.bool_]


def accepted(frame: Frame, now_hour: int) -> tuple[Frame, list[str]]:
    """Return the rows that a stream fed with the file now would accept, by their hour, and what is odd about the file.

    The producer sends them in that order, equal hours in that of the file.

    Args:
        frame: The file, unchanged.
        now_hour: The hour of Kafka's timestamps: rows far ahead of it and of their station are refused.
    """
    remarks: list[str] = []
    if np.any(np.diff(frame.hours) < 0):
        remarks.append("the rows are not in the order of DateTime: judged in that order, in which they would be sent")
    frame = _kept(frame, np.argsort(frame.hours, kind="stable"))
    frame = _without_impossible(frame, remarks)
    frame = _without_repeats(frame, now_hour, remarks)
    gaps = np.diff(frame.hours) - 1
    if np.any(gaps > 0):
        remarks.append(f"{np.count_nonzero(gaps):,} gaps, {gaps.sum():,} hours without a row")
    return frame, remarks


def _without_impossible(frame: Frame, remarks: list[str]) -> Frame:
    low, high = np.array([HARD_LIMITS[name] for name in RAW_COLUMNS]).T
    impossible = (frame.values < low) | (frame.values > high)
    if impossible.any():
        columns = ", ".join(np.array(RAW_COLUMNS)[impossible.any(axis=0)])
        remarks.append(f"{_rows(impossible.any(axis=1))} refused for impossible values of {columns}")
    earliest, latest = map(hour_of, HOUR_LIMITS)
    elsewhere = (frame.hours < earliest) | (frame.hours > latest)
    if elsewhere.any():
        remarks.append(f"{_rows(elsewhere)} refused for an impossible DateTime")
    return _kept(frame, ~impossible.any(axis=1) & ~elsewhere)


def _without_repeats(frame: Frame, now_hour: int, remarks: list[str]) -> Frame:
    """Leave out the repeats of an hour, and what is too far ahead of the row before it."""
    newest, later = -1, np.zeros(len(frame), dtype=bool)
    why = {"future": later.copy(), "repeated": later.copy(), "conflicting": later.copy()}
    seen: dict[int, int] = {}
    for row, hour in enumerate(frame.hours.tolist()):
        if hour in seen:
            same = np.array_equal(frame.values[row], frame.values[seen[hour]], equal_nan=True)
            why["repeated" if same else "conflicting"][row] = True
        elif hour > max(newest, now_hour) + MAX_HOURS_AHEAD:
            why["future"][row] = True
        else:
            newest, later[row], seen[hour] = hour, True, row
    sentences = {
        "repeated": "ignored: the hour is there already, with the same values",
        "conflicting": "refused: the hour is there already, with other values",
        "future": "refused: in the future",
    }
    remarks += [f"{_rows(why[name])} {text}" for name, text in sentences.items() if why[name].any()]
    return _kept(frame, later)


def _rows(flags: Bools) -> str:
    count = int(flags.sum())
    return f"{count:,} row{'s' * (count != 1)}"


def _kept(frame: Frame, rows: Bools | NDArray[np.int64]) -> Frame:
    return Frame(frame.hours[rows], frame.values[rows], frame.source)
