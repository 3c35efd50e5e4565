"""From texts to values: one decimal mark for the whole file, every spelling of a missing value, nothing guessed."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from airquality.data.files.answers import Answers
from airquality.data.files.grid import Grid
from airquality.ground.errors import UsageError
from airquality.records import MISSING_MARKER

Decimal = Literal["point", "comma"]
#: What programs write for a missing value, in any case of letters.
MISSING_WORDS = frozenset({"", "na", "n/a", "#n/a", "#na", "nan", "null", "none", "-", "--", "---"})

_WHOLE = r"[+-]?[0-9]+(?:[eE][+-]?[0-9]+)?"
_MARKED = {"point": r"[+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+)", "comma": r"[+-]?(?:[0-9]+,[0-9]*|,[0-9]+)"}
_EXPONENT = r"(?:[eE][+-]?[0-9]+)?"
_GROUPED = {
    "point": r"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]*)?",
    "comma": r"[+-]?[1-9][0-9]{0,2}(?:\.[0-9]{3})+(?:,[0-9]*)?",
}
_SIGN = {"point": ".", "comma": ","}
_OTHER: dict[str, Decimal] = {"point": "comma", "comma": "point"}


def read(path: Path, grid: Grid, positions: Sequence[int], answers: Answers) -> tuple[NDArray[np.float64], Decimal | None]:
    """Return the values of the columns at ``positions`` and the file's decimal mark, None where no number has one.

    Returns:
        ``(n_rows, len(positions))`` float64, the very numbers that are written, NaN where nothing was measured.

    Raises:
        UsageError: a cell is no number, or the decimal mark is in doubt; the message says where and names the flag.
    """
    cells = grid.table.iloc[:, list(positions)].to_numpy(dtype=object)
    codes, texts = pd.factorize(cells.ravel())
    words = MISSING_WORDS | {word.strip().casefold() for word in answers.missing}
    numbers = [text for text in texts.tolist() if text.casefold() not in words]
    decimal = answers.decimal or _decimal(path, grid, positions, numbers)
    known = {text: _value(text, decimal, answers.decimal is not None) for text in numbers}
    for text, value in known.items():
        if value is None:
            raise UsageError(f"{path}, {_place(grid, positions, text)}: {_complaint(text)}")
    values = np.array([known.get(text, math.nan) for text in texts.tolist()], dtype=np.float64)[codes]
    return np.where(np.isin(values, _markers(answers.missing)), np.nan, values).reshape(cells.shape), decimal


def _decimal(path: Path, grid: Grid, positions: Sequence[int], numbers: Sequence[str]) -> Decimal | None:
    """Return the only decimal mark of the file; refuse both, and one that may as well group thousands everywhere."""
    marked = {mark: [text for text in numbers if sign in text] for mark, sign in _SIGN.items()}
    both = bool(marked["point"] and marked["comma"])
    mark: Decimal = "point" if marked["point"] else "comma"
    if not marked[mark]:
        return None
    usual = grid.separator == "," and mark == "point"
    if not both and (usual or not all(re.fullmatch(_GROUPED[_OTHER[mark]], text) for text in marked[mark])):
        return mark
    where = " and ".join(f"{texts[0]!r} ({_place(grid, positions, texts[0])})" for texts in marked.values() if texts)
    why = "decimal points and decimal commas" if both else "a mark that may as well group thousands"
    raise UsageError(
        f"{path} has numbers with {why}: {where}. Say --decimal point or --decimal comma; the other mark then groups "
        "thousands."
    )


def _place(grid: Grid, positions: Sequence[int], text: str) -> str:
    row, column = np.argwhere(grid.table.iloc[:, list(positions)].to_numpy(dtype=object) == text)[0]
    return f"line {grid.lines[row]}, column {grid.header[positions[column]]}"


def _value(text: str, decimal: Decimal | None, grouped: bool) -> float | None:
    """Return the number, None if it is none or not finite; ``grouped``: the other mark may group thousands."""
    if decimal is not None and grouped and re.fullmatch(_GROUPED[decimal], text):
        text = text.replace(_SIGN[_OTHER[decimal]], "")
    if not re.fullmatch(_WHOLE, text) and not (decimal and re.fullmatch(_MARKED[decimal] + _EXPONENT, text)):
        return None
    value = float(text.replace(",", "."))
    return value if math.isfinite(value) else None


def _complaint(text: str) -> str:
    if re.fullmatch(r"[+-]?(?:inf|infinity|[0-9.,]+[eE][+-]?[0-9]+)", text, re.IGNORECASE):
        return f"{text!r} is not a finite number (a missing value is an empty cell, NA or {MISSING_MARKER:g})"
    return f"{text!r} is no number; if it stands for a missing value, say --missing-value {shlex.quote(text)}."


def _markers(further: Sequence[str]) -> list[float]:
    """Return the numbers that stand for a missing value: the data set's own, and the owner's."""
    numbers = (_value(word.strip(), "comma" if "," in word else "point", grouped=False) for word in further)
    return [MISSING_MARKER, *(number for number in numbers if number is not None)]
