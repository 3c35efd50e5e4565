"""From text to a table of texts: one header, rows of one width, and the line of the file each is on."""

from __future__ import annotations

import csv
import io
import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from airquality.ground.errors import UsageError

#: What separates cells, and what it is called; of two that fit equally well the first one counts.
SEPARATORS = {";": "semicolon", "\t": "tab", "|": "bar", ",": "comma"}
csv.field_size_limit(1_000_000)


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The cells of a file as stripped texts: a column for each of ``header``; ``lines`` has the line of each row."""

    header: tuple[str, ...]
    table: pd.DataFrame
    lines: NDArray[np.int64]
    separator: str
    remarks: tuple[str, ...]


def parse(path: Path, text: str, known: Callable[[Sequence[str]], int]) -> Grid:
    """Return the cells of ``text``.

    Args:
        path: For messages.
        text: The file.
        known: How many of these names of columns are known; the separator that makes the most of the header is taken.

    Raises:
        UsageError: no line is a header, or a row has not the header's number of cells; the message says which.
    """
    rest, separator = _separated(path, text, known)
    n_before = int(len(rest) < len(text))  # the line that says the separator
    header, lines, width = _layout(path, rest, n_before, separator, known)
    table = _table(rest, separator, width, len(lines), path)
    body = table.iloc[1:, : len(header)]
    kept, remarks = _without_empty(body, header)
    return Grid(tuple(header), body[kept].reset_index(drop=True), lines[1:][kept.to_numpy()], separator, remarks)


def _separated(path: Path, text: str, known: Callable[[Sequence[str]], int]) -> tuple[str, str]:
    """Return the text from its header on, and its separator; a first line ``sep=;`` is Excel's word for it."""
    said = re.match(r'"?sep=(.)"?\r?\n', text)
    if said:
        return text[said.end() :], said[1]
    first = next((line for line in text.splitlines() if line.strip()), "")
    try:
        cells = {separator: _cells(first, separator) for separator in SEPARATORS}
    except csv.Error as error:
        raise UsageError(f"{path} does not begin with the names of its columns: {error}") from error
    return text, max(cells, key=lambda separator: (known(cells[separator]), len(cells[separator])))


def _cells(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])


def _layout(
    path: Path, text: str, n_before: int, separator: str, known: Callable[[Sequence[str]], int]
) -> tuple[list[str], NDArray[np.int64], int]:
    """Return the header, where each line that is not blank ends in the file, and the most cells of any; rows are let go.

    ``n_before`` lines of the file come before ``text``.
    """
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    header: list[str] = []
    lines, width = array("q"), 0
    try:
        for row in rows:
            if len(row) < 2 and not any(cell.strip() for cell in row):
                continue
            if not lines:
                header = _header(path, row, known)
            line = n_before + rows.line_num
            _require_width(path, row, line, len(header))
            lines.append(line)
            width = max(width, len(row))
    except csv.Error as error:
        raise UsageError(f"{path} cannot be read as a CSV: line {n_before + rows.line_num}: {error}") from error
    return header, np.array(lines, dtype=np.int64), width


def _header(path: Path, cells: Sequence[str], known: Callable[[Sequence[str]], int]) -> list[str]:
    """Return the names of the columns, without empty ones at the end."""
    header = [cell.strip() for cell in cells]
    while header and not header[-1]:
        header.pop()
    if known(header) < 2:
        raise UsageError(
            f"{path} does not begin with the names of its columns (known are DateTime, or Date and Time, and the data set's "
            f"thirteen).\n  found:    {', '.join(cells)[:200]}"
        )
    return header


def _require_width(path: Path, row: Sequence[str], line: int, width: int) -> None:
    """Raise where a row has too few cells, or something in a cell beyond the header's last."""
    if len(row) < width or any(cell.strip() for cell in row[width:]):
        raise UsageError(f"{path}, line {line}: {len(row)} cells where the header has {width}.")


def _table(text: str, separator: str, width: int, n_rows: int, path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(
            io.StringIO(text, newline=""),
            sep=separator,
            header=None,
            names=list(range(width)),
            index_col=False,
            dtype=object,
            keep_default_na=False,
            skipinitialspace=True,
        )
    except pd.errors.ParserError as error:
        raise UsageError(f"{path} cannot be read as a CSV, its quotation marks do not match: {error}") from error
    if len(table) != n_rows:
        raise UsageError(f"{path} cannot be read as a CSV: its quotation marks do not match.")
    return table.apply(lambda column: column.str.strip())


def _without_empty(body: pd.DataFrame, header: Sequence[str]) -> tuple[pd.Series[bool], tuple[str, ...]]:
    """Say which rows hold something: neither empty ones nor the header's repeats, which joined files have."""
    empty = (body == "").all(axis=1)
    repeated = (body == list(header)).all(axis=1)
    remarks = [f"{empty.sum()} empty rows left out"] if empty.any() else []
    remarks += [f"{repeated.sum()} repeats of the header left out"] if repeated.any() else []
    return ~(empty | repeated), tuple(remarks)
