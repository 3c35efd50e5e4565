"""What is still to be made of reports: one small file for each, so that neither a crash nor a snapshot loses any of it.

A window that closed is stored as ``STEM.page``. Once its page is written the file becomes ``STEM.evidence``, and it goes
once Evidently's part is there, too. What became final of a window is ``STEM.truth`` until its page says so.
Nothing else remembers what is due: whoever opens a station asks here, and the index counts here.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import orjson

from airquality.events import WindowSettled
from airquality.ground.files import is_folder, write_atomically
from airquality.ground.typed import plain, restored
from airquality.monitoring.drift import Judge, Window, WindowState
from airquality.records import hour_of
from airquality.reports.folder import folder_name, report_stem
from airquality.reports.lock import OWN_FOLDER
from airquality.truth.kinds import KIND_BY_NAME, WindowKind
from airquality.truth.window_truth import WindowTruth

#: A window that closed, whose report is to be made, or one whose truth is final, which its page is to say.
Job = Window | WindowSettled
#: What is made: a window's page, the page once more with what is final, Evidently's part.
Stage = Literal["page", "truth", "evidence"]

_STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True, slots=True)
class Due:
    """One thing that is to be made of a window."""

    station_id: str
    kind: WindowKind
    end_hour: int
    stage: Stage

    @classmethod
    def of(cls, job: Job) -> Due:
        """Return what is to be made first of a job."""
        return cls(job.station_id, job.kind, job.end_hour, "page" if isinstance(job, Window) else "truth")

    def then(self, stage: Stage) -> Due:
        """Return what is made of the window later."""
        return replace(self, stage=stage)


@dataclass(frozen=True, slots=True)
class ReportResult:
    """What became of one window's report: its page, or why it is not whole."""

    station_id: str
    kind: str
    end_hour: int
    result: Literal["generated", "failed"]
    path: Path | None = None
    error: str = ""


class DueFolder:
    """The files of what is due in one reports folder. Consumers that share the folder share them."""

    def __init__(self, reports_dir: Path) -> None:
        self._dir = reports_dir / OWN_FOLDER / "due"

    def store(self, job: Job) -> None:
        """Make a job durable; raises ``OSError`` where the folder cannot be written."""
        state = job.truth if isinstance(job, WindowSettled) else job.state()
        document = {"station_id": job.station_id, **plain(state)}
        write_atomically(self.path(Due.of(job)), orjson.dumps(document, default=_array_to_json))

    def path(self, due: Due) -> Path:
        """Return the file of what is due."""
        return self._dir / folder_name(due.station_id) / f"{report_stem(due.kind.name, due.end_hour)}.{due.stage}"

    def of(self, station_id: str) -> list[Due]:
        """Return what is due of a station; nothing where the folder cannot be read, which whoever writes reports says."""
        parsed = (_parsed(station_id, path.name) for path in _files(self._dir / folder_name(station_id)))
        return [due for due in parsed if due is not None]

    def count(self) -> Counter[str]:
        """Return by stage how much is due of all stations."""
        folders = [Path(entry.path) for entry in _entries(self._dir) if is_folder(entry)]
        return Counter(path.suffix[1:] for folder in folders for path in _files(folder) if _is_ours(path.name))

    def read(self, due: Due) -> bytes | None:
        """Return the file's content, None where there is no such file any more: it has been made."""
        try:
            return self.path(due).read_bytes()
        except FileNotFoundError:
            return None

    def advance(self, due: Due, content: bytes) -> None:
        """Note that a page is made of ``content``; what was stored anew meanwhile stays due."""
        if self.read(due) != content:
            return
        if due.stage == "page":
            self.path(due).replace(self.path(due.then("evidence")))
        else:
            self.path(due).unlink(missing_ok=True)


def loaded(content: bytes, judge: Judge) -> Job:
    """Return the job whose file holds ``content``, a window judged anew; raises as a lookup does if it holds none."""
    document = orjson.loads(content)
    station_id: str = document.pop("station_id")
    if "complete" in document:
        truth = restored(WindowTruth, document)
        return WindowSettled(station_id, replace(truth, late=tuple((hour, value) for hour, value in truth.late)))
    arrays = {name: _array(value) for name, value in document.items() if isinstance(value, dict) and "dtype" in value}
    return Window.from_state(station_id, restored(WindowState, {**document, **arrays}), judge)


def _array_to_json(value: object) -> dict[str, Any]:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value)} cannot be stored")
    return {"dtype": value.dtype.str, "shape": value.shape, "bytes": b64encode(value.tobytes()).decode()}


def _array(fields: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    return np.frombuffer(b64decode(fields["bytes"]), dtype=fields["dtype"]).reshape(fields["shape"])


def _parsed(station_id: str, name: str) -> Due | None:
    if not _is_ours(name):
        return None
    kind, _, rest = name.partition("_")
    stamp, _, stage = rest.partition(".")
    try:
        end_hour = hour_of(datetime.strptime(stamp, "%Y%m%d_%H%M%S"))
    except ValueError:
        return None
    return Due(station_id, KIND_BY_NAME[kind], end_hour, next(known for known in _STAGES if known == stage))


def _is_ours(name: str) -> bool:
    return name.partition("_")[0] in KIND_BY_NAME and name.rpartition(".")[2] in _STAGES


def _files(folder: Path) -> Iterator[Path]:
    return (Path(entry.path) for entry in _entries(folder))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(folder) as entries:
        return list(entries)
    return []
