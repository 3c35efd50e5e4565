"""Somebody's file of readings at the door: read, and checked for what only its values tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airquality.data import dataset
from airquality.data.dataset import Frame
from airquality.data.files import doubts, reader
from airquality.data.files.answers import NO_ANSWERS, Answers
from airquality.data.steps import why_not_hourly
from airquality.ground.errors import UsageError


@dataclass(frozen=True, slots=True)
class ReadingsFile:
    """A file of readings: its rows, in its order.

    ``understood`` is how it was read, ``remarks`` what will be refused of it, ``odd_steps`` why its rows are not hourly,
    None if they are.
    """

    frame: Frame
    understood: tuple[str, ...]
    remarks: tuple[str, ...]
    odd_steps: str | None


def read(path: Path, answers: Answers = NO_ANSWERS) -> ReadingsFile:
    """Return the rows of a file of readings.

    Raises:
        UsageError: it cannot be read, has no rows, or something in it is in doubt; the message says what was found and names
            the flag that settles it.
    """
    table = reader.read(path, answers)
    if not len(table.hours):
        raise UsageError(f"{path} has a header but no rows.")
    remarks = doubts.settle(path, table, answers)
    understood = tuple(reader.sentences(path, table))
    return ReadingsFile(dataset.frame_of(path, table), understood, tuple(remarks), why_not_hourly(table.hours))
