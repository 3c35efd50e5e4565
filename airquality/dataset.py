"""The one home of the data set: where it is found, how it is read and cut, and whether it is the real one.

UCI data set 360 "Air Quality" (CC BY 4.0), https://archive.ics.uci.edu/dataset/360/air+quality: 9,357 hourly rows of
one station, 2004-03-10 18:00 to 2005-04-04 14:00. Nothing in this module ever fills a missing value.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import os
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import requests
from numpy.typing import NDArray
from tqdm import tqdm

from airquality.errors import Unavailable, UsageError
from airquality.schemas import MISSING_MARKER, RAW_COLUMNS, hour_of

#: ``unlabelled`` is a CSV that ``create_dataset.py`` did not write: only its owner knows what is in it.
DataSource = Literal["uci", "simulated", "unlabelled"]
#: What the environment variable ``AIR_QUALITY_DATA_SOURCE`` may ask for; ``auto`` takes the real file wherever it can be had.
Choice = Literal["auto", "uci", "simulated"]

UCI_NAME = "AirQualityUCI.csv"
UCI_URL = "https://archive.ics.uci.edu/static/public/360/air+quality.zip"
#: SHA-256 of the real file with unix line ends.
UCI_SHA256 = "52690e4d44e65cb651cc8c68009c950fe94ea1ddda67d588780b64c4ecf81c23"
#: Simulated history lives in a folder of this name, so that it never stands where the real file is looked for.
SIMULATED_DIR = "simulated"
#: The label beside the derived files: which data they were made of.
LABEL_NAME = "source.json"
STREAM_NAME = "test_data_raw.csv"

_UCI_HEADER = ("Date", "Time", *RAW_COLUMNS)
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 10.0
_DOWNLOAD_SECONDS = 60.0
_DOWNLOAD_LIMIT_BYTES = 20_000_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file in the data set's own format, and whether it is the real one."""

    path: Path
    source: DataSource


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Consecutive rows of one station; the arrays are read-only.

    ``hours`` is ``(n,)`` int64 as :func:`airquality.schemas.hour_of` counts them; ``values`` is ``(n, 13)`` float64 in
    :data:`airquality.schemas.RAW_COLUMNS` order, NaN where nothing was measured.
    """

    hours: NDArray[np.int64]
    values: NDArray[np.float64]
    source: DataSource

    def __len__(self) -> int:
        return len(self.hours)

    def rows(self, start: int, stop: int) -> Frame:
        """Return rows ``start`` (inclusive) to ``stop`` (exclusive)."""
        return Frame(self.hours[start:stop], self.values[start:stop], self.source)

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
    """Find the data set: in ``dataset_dir``, else in ``shared/dataset`` beside the project, else by download, else simulated.

    Args:
        dataset_dir: The project's ``dataset`` folder; what is found elsewhere is copied into it.
        choice: ``uci`` or ``simulated`` allow only that.
        fetch: Returns the CSV's bytes or raises ``Unavailable``; :func:`download` if absent.

    Raises:
        UsageError: a file of the right name is not the published one.
        Unavailable: ``choice`` is ``uci`` and it cannot be had.
    """
    if choice == "simulated":
        return _simulated(dataset_dir)
    try:
        return DataFile(_uci_file(dataset_dir, fetch or download), "uci")
    except Unavailable as error:
        if choice == "uci":
            raise
        logger.warning("%s Going on with SIMULATED data.", error)
        return _simulated(dataset_dir)


def _uci_file(dataset_dir: Path, fetch: Callable[[], bytes]) -> Path:
    path = dataset_dir / UCI_NAME
    if path.exists():
        _require_published(path)
        return path
    shared = dataset_dir.resolve().parent.parent / "shared" / "dataset" / UCI_NAME
    if shared.exists():
        _require_published(shared)
        write_atomically(path, shared.read_bytes())
    else:
        write_atomically(path, fetch())
    return path


def _is_published(content: bytes) -> bool:
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest() == UCI_SHA256


def _require_published(path: Path) -> None:
    if not _is_published(path.read_bytes()):
        raise UsageError(
            f"{path} is not the published data set (its SHA-256 differs). Delete it and run again to fetch the real one, "
            f"or set AIR_QUALITY_DATA_SOURCE=simulated to work on simulated data."
        )


def download(url: str = UCI_URL) -> bytes:
    """Return the CSV inside the archive at ``url``, checked against its SHA-256, with unix line ends.

    Raises:
        Unavailable: the archive cannot be had within a minute, or holds something else; the message says which.
    """
    try:
        content = zipfile.ZipFile(io.BytesIO(_get(url))).read(UCI_NAME).replace(b"\r\n", b"\n")
    except requests.RequestException as error:
        raise Unavailable(f"The data set cannot be downloaded from {url} ({type(error).__name__}).") from error
    except (zipfile.BadZipFile, KeyError) as error:
        raise Unavailable(f"What {url} answers is not an archive with {UCI_NAME} in it.") from error
    if not _is_published(content):
        raise Unavailable(f"{UCI_NAME} from {url} is not the file this project was built on (its SHA-256 differs).")
    return content


def _get(url: str) -> bytes:
    deadline = time.monotonic() + _DOWNLOAD_SECONDS
    body = bytearray()
    with requests.get(url, stream=True, timeout=(_CONNECT_SECONDS, _READ_SECONDS)) as response:
        response.raise_for_status()
        size = int(response.headers.get("Content-Length", 0)) or None
        with tqdm(desc=f"downloading {UCI_NAME}", total=size, unit="B", unit_scale=True, disable=None) as bar:
            for chunk in response.iter_content(65_536):
                body += chunk
                bar.update(len(chunk))
                if time.monotonic() > deadline or len(body) > _DOWNLOAD_LIMIT_BYTES:
                    raise requests.Timeout(f"{len(body)} bytes in {_DOWNLOAD_SECONDS:.0f} s")
    return bytes(body)


def _simulated(dataset_dir: Path) -> DataFile:
    raise Unavailable("The simulator is not here yet.")


def load(path: Path) -> Frame:
    """Read a file in the data set's own format (``;`` separated, ``,`` decimal, -200 missing).

    Raises:
        UsageError: it is neither the published file nor in a folder named ``simulated``, or its rows are not gap-free.
    """
    content = path.read_bytes()
    if _is_published(content):
        source: DataSource = "uci"
    elif path.parent.name == SIMULATED_DIR:
        source = "simulated"
    else:
        _require_published(path)
    lines = csv.reader(io.StringIO(content.decode()), delimiter=";")
    if tuple(next(lines))[: len(_UCI_HEADER)] != _UCI_HEADER:
        raise UsageError(f"{path} does not begin with the data set's header.")
    cells = [row for row in lines if row and row[0]]
    hours = [hour_of(datetime.strptime(f"{row[0]} {row[1]}", "%d/%m/%Y %H.%M.%S")) for row in cells]
    frame = _frame(hours, [[_value(cell.replace(",", ".")) for cell in row[2:15]] for row in cells], source)
    if np.any(np.diff(frame.hours) != 1):
        raise UsageError(f"{path} is not gap-free: every row must be one hour after the one before.")
    return frame


def _value(text: str) -> float:
    """Return the number, NaN for an empty cell or the missing-value marker."""
    value = float(text or "nan")
    return float("nan") if value == MISSING_MARKER else value


def _frame(hours: list[int], values: list[list[float]], source: DataSource) -> Frame:
    frame = Frame(np.array(hours, dtype=np.int64), np.array(values, dtype=np.float64).reshape(-1, len(RAW_COLUMNS)), source)
    frame.hours.setflags(write=False)
    frame.values.setflags(write=False)
    return frame


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` so that no reader, and no crash, ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
