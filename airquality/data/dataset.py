"""The one home of the data set: where it is found, how it is read and cut, and whether it is the real one.

UCI data set 360 "Air Quality" (CC BY 4.0), https://archive.ics.uci.edu/dataset/360/air+quality: 9,357 hourly rows of
one station, 2004-03-10 18:00 to 2005-04-04 14:00. Nothing in this module ever fills a missing value.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from airquality.data import simulator, uci_file
from airquality.data.uci_file import UCI_NAME
from airquality.ground.errors import Unavailable, UsageError
from airquality.ground.files import write_atomically
from airquality.network.current import NETWORK
from airquality.records import MISSING_MARKER, RAW_COLUMNS, TARGET_INDEX, datetime_of, hour_of, isoformat

if TYPE_CHECKING:
    from airquality.data.files.reader import Table

#: ``unlabelled`` is a CSV that ``create_dataset.py`` did not write: only its owner knows what is in it.
DataSource = Literal["uci", "simulated", "unlabelled"]
#: What the environment variable ``AIR_QUALITY_DATA_SOURCE`` may ask for; ``auto`` takes the real file if it can be had.
Choice = Literal["auto", "uci", "simulated"]
Hours = NDArray[np.int64]
Values = NDArray[np.float64]

#: Whose readings a labelled file holds. Simulated rows never share the real station's history, and nobody else's do.
STATION_IDS: dict[DataSource, str] = {"uci": "uci-360", "simulated": "simulated-360"}

#: Simulated history lives in a folder of this name, so that it is never taken for the real file.
SIMULATED_DIR = "simulated"
#: The label beside the derived files: which data they were made of.
LABEL_NAME = "source.json"
STREAM_NAME = "test_data_raw.csv"

_UCI_HEADER = ("Date", "Time", *RAW_COLUMNS)
_EMPTY_ROWS = 114

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file in the data set's own format, and whether it is the real one."""

    path: Path
    source: DataSource


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Consecutive rows of one station; the arrays are read-only.

    ``hours`` is ``(n,)`` int64 as :func:`airquality.records.hour_of` counts them; ``values`` is ``(n, columns)`` float64 in
    :data:`airquality.records.RAW_COLUMNS` order, NaN where nothing was measured.
    """

    hours: Hours
    values: Values
    source: DataSource

    def __len__(self) -> int:
        return len(self.hours)

    def rows(self, start: int, stop: int) -> Frame:
        """Return rows ``start`` (inclusive) to ``stop`` (exclusive)."""
        return Frame(self.hours[start:stop], self.values[start:stop], self.source)

    @property
    def truths(self) -> Values:
        """The measured target, ``(n,)``, NaN where it was not."""
        return self.values[:, TARGET_INDEX]

    @property
    def sha256(self) -> str:
        """The data hash: SHA-256 of hours and values as little-endian bytes, every NaN written alike."""
        values = np.where(np.isnan(self.values), np.nan, self.values)
        digest = hashlib.sha256(np.ascontiguousarray(self.hours, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
        return digest.hexdigest()


class Split(NamedTuple):
    """A frame cut by time into 70 / 15 / 15 percent."""

    train: Frame
    validation: Frame
    test: Frame


def split_rows(n_rows: int) -> tuple[int, int]:
    """Return the first row of the validation and of the test block.

    >>> split_rows(9357)
    (6549, 7953)
    """
    return n_rows * 70 // 100, n_rows * 85 // 100


def split(frame: Frame) -> Split:
    """Cut ``frame`` by time at :func:`split_rows`; the blocks share its memory."""
    validation, test = split_rows(len(frame))
    return Split(frame.rows(0, validation), frame.rows(validation, test), frame.rows(test, len(frame)))


def find(dataset_dir: Path, choice: Choice = "auto", fetch: Callable[[], bytes] | None = None) -> DataFile:
    """Find the data set: in ``dataset_dir``, in a ``dataset`` folder beside the project's, by download, or simulated.

    Args:
        dataset_dir: The project's ``dataset`` folder; what is found elsewhere is copied into it.
        choice: ``uci`` or ``simulated`` allow only that.
        fetch: Returns the CSV's bytes or raises ``Unavailable``; :func:`airquality.data.uci_file.download` if absent.

    Raises:
        UsageError: a file of the right name is not the published one.
        Unavailable: ``choice`` is ``uci`` and it cannot be had.
    """
    if choice == "simulated":
        return _simulated(dataset_dir)
    try:
        return DataFile(uci_file.obtain(dataset_dir, fetch or uci_file.download), "uci")
    except Unavailable as error:
        if choice == "uci":
            raise
        logger.warning("%s Going on with SIMULATED data.", error)
        return _simulated(dataset_dir)


def _simulated(dataset_dir: Path) -> DataFile:
    path = dataset_dir / SIMULATED_DIR / UCI_NAME
    write_uci_csv(simulate(), path)
    return DataFile(path, "simulated")


def load(path: Path) -> Frame:
    """Read a file in the data set's own format (``;`` separated, ``,`` decimal, -200 missing), or a copy with its values.

    Raises:
        UsageError: its values are neither the published ones nor in a folder named ``simulated``, or not gap-free.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist: run python dataset/create_dataset.py.")
    content = path.read_bytes()
    if not (is_real := uci_file.is_published(content)) and path.parent.name != SIMULATED_DIR:
        from airquality.data import copies  # pandas: see read_stream_csv

        hours, values, _ = copies.read(path)
        return _frame(hours, values, "uci")
    try:
        frame = _parse_uci(content.decode(), "uci" if is_real else "simulated")
    except (ValueError, IndexError) as error:
        raise UsageError(f"{path} is not in the data set's format: {error}. Delete it and run again.") from error
    if np.any(np.diff(frame.hours) != 1):
        raise UsageError(f"{path} is not gap-free: every row must be one hour after the one before.")
    return frame


def _parse_uci(text: str, source: DataSource) -> Frame:
    lines = csv.reader(io.StringIO(text), delimiter=";")
    if tuple(next(lines, []))[:15] != _UCI_HEADER:
        raise ValueError("its header differs")
    cells = [row for row in lines if row and row[0]]
    hours = [hour_of(datetime.strptime(f"{row[0]} {row[1]}", "%d/%m/%Y %H.%M.%S")) for row in cells]
    return _frame(hours, [[_value(cell.replace(",", ".")) for cell in row[2:15]] for row in cells], source)


def _value(text: str) -> float:
    """Return the number, NaN for an empty cell or the missing-value marker; raises ``ValueError`` if it is neither."""
    if not text:
        return math.nan
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a finite number (a missing value is an empty cell or {MISSING_MARKER:g})")
    return math.nan if value == MISSING_MARKER else value


def _frame(hours: Sequence[int] | Hours, values: Sequence[Sequence[float]] | Values, source: DataSource) -> Frame:
    frame = Frame(np.array(hours, dtype=np.int64), np.array(values, dtype=np.float64).reshape(-1, len(RAW_COLUMNS)), source)
    frame.hours.setflags(write=False)
    frame.values.setflags(write=False)
    return frame


def write_uci_csv(frame: Frame, path: Path) -> None:
    """Write ``frame`` in the data set's own format and precision, its empty last columns and rows included."""
    places = [column.recorded.decimals if column.recorded else 0 for column in NETWORK.columns]
    lines = [";".join(_UCI_HEADER) + ";;"]
    for hour, row in zip(frame.hours.tolist(), frame.values.tolist(), strict=True):
        cells = (_uci_cell(value, n) for value, n in zip(row, places, strict=True))
        lines.append(f"{datetime_of(hour):%d/%m/%Y;%H.%M.%S};{';'.join(cells)};;")
    lines += [";" * (len(_UCI_HEADER) + 1)] * _EMPTY_ROWS
    write_atomically(path, ("\n".join(lines) + "\n").encode())


def _uci_cell(value: float, places: int) -> str:
    return f"{MISSING_MARKER:g}" if math.isnan(value) else f"{value:.{places}f}".replace(".", ",")


def write_stream_csv(frame: Frame, path: Path) -> None:
    """Write ``frame`` as the producer replays it: ``DateTime`` and the raw columns, an empty cell for a missing value."""
    write_table(path, RAW_COLUMNS, frame.hours, frame.values)


def write_table(path: Path, names: Sequence[str], hours: Hours, values: Values) -> None:
    """Write a comma CSV whose first column is ``DateTime``; every float64 reads back exactly, NaN is an empty cell."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("DateTime", *names))
    for hour, row in zip(hours.tolist(), values.tolist(), strict=True):
        lines.writerow([isoformat(hour), *("" if math.isnan(v) else repr(v).removesuffix(".0") for v in row)])
    write_atomically(path, text.getvalue().encode())


def read_stream_csv(path: Path) -> Frame:
    """Read a CSV of readings unchanged: in its order, with its gaps and repeated hours.

    Raises:
        UsageError: the file is absent, a column is not there, or a cell cannot be read; the message says where.
    """
    from airquality.data.files import reader  # pandas: half a second that programs which read no CSV need not wait for

    return frame_of(path, reader.read(path))


def frame_of(path: Path, table: Table) -> Frame:
    """Return what was read from ``path`` with the label that ``create_dataset.py`` may have put beside it."""
    return _frame(table.hours, table.values, _source_of(path.parent, table.sha256))


@dataclass(frozen=True, slots=True)
class Label:
    """What the derived files beside it were made of; ``files`` maps each one's name to the SHA-256 of its bytes."""

    source: DataSource
    sha256: str
    rows: int
    files: dict[str, str]


def write_label(dataset_dir: Path, frame: Frame, names: Sequence[str]) -> None:
    """Record in ``dataset_dir`` that the files ``names`` in it were made of ``frame``."""
    files = {name: hashlib.sha256((dataset_dir / name).read_bytes()).hexdigest() for name in names}
    label = {"data_source": frame.source, "sha256": frame.sha256, "rows": len(frame), "files": files}
    write_atomically(dataset_dir / LABEL_NAME, (json.dumps(label, indent=2) + "\n").encode())


def read_label(dataset_dir: Path) -> Label:
    """Return the label of ``dataset_dir``; raises ``UsageError`` where there is none, or none that can be read."""
    path = dataset_dir / LABEL_NAME
    try:
        label = json.loads(path.read_bytes())
        if label["data_source"] not in ("uci", "simulated"):
            raise ValueError(label["data_source"])
        return Label(label["data_source"], label["sha256"], label["rows"], dict(label["files"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is absent or broken: run python dataset/create_dataset.py.") from error


def current_source(dataset_dir: Path) -> DataSource:
    """Return what the derived files in ``dataset_dir`` were made of; raises ``UsageError`` before they are made."""
    return read_label(dataset_dir).source


def current(dataset_dir: Path, choice: Choice = "auto") -> Frame:
    """Load the data set the derived files were made of, so that all programs agree on it; :func:`find` it if there are none.

    Raises:
        UsageError: it changed, or ``choice`` forbids it, since the files were made.
    """
    if not (dataset_dir / LABEL_NAME).exists():
        return load(find(dataset_dir, choice).path)
    label = read_label(dataset_dir)
    if choice not in ("auto", label.source):
        raise UsageError(
            f"{dataset_dir} holds {label.source} data but {choice} is asked for: run python dataset/create_dataset.py."
        )
    frame = load((dataset_dir / SIMULATED_DIR if label.source == "simulated" else dataset_dir) / UCI_NAME)
    if (frame.source, frame.sha256) != (label.source, label.sha256):
        raise UsageError(f"The data set changed since {dataset_dir / LABEL_NAME}: run python dataset/create_dataset.py.")
    return frame


def _source_of(folder: Path, sha256: str) -> DataSource:
    """Say what a CSV was made of; a label left over from another version of the file does not count."""
    if not (folder / LABEL_NAME).exists():
        return "unlabelled"
    try:
        label = read_label(folder)
    except UsageError as error:
        raise UsageError(f"{error} If that file is none of this system's, move the CSV to a folder of its own.") from error
    return label.source if sha256 in label.files.values() else "unlabelled"


def simulate(seed: int = 360) -> Frame:
    """Return a made-up history of the real one's dates and format; see :mod:`airquality.data.simulator`."""
    return _frame(*simulator.simulate(seed), "simulated")
