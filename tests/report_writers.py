"""Stand-ins for the writer of reports, opened in the report process: fast, and faulty on demand."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path

from airquality.events import WindowSettled
from airquality.reports.jobs import Job
from airquality.reports.process import OpenWriter, Write


class NoExceptionError(BaseException):
    """Evidently has one of these."""


def plain(folder: Path) -> OpenWriter:
    """Return an opener whose writer leaves a small file per window."""
    return functools.partial(_open, folder, "", "")


def faulty(folder: Path, fault: str, when: str) -> OpenWriter:
    """Return an opener whose writer has ``fault`` on some windows.

    ``when`` is ``"once"``, the first window; ``"daily"``, every daily one; or ``"broken"``, every daily one while a file of
    that name is there.
    """
    return functools.partial(_open, folder, fault, when)


def never_ready() -> Write:
    """End the process before it has a writer."""
    os._exit(7)


def _open(folder: Path, fault: str, when: str) -> Write:
    return functools.partial(_write, folder, fault, when)


def _write(folder: Path, fault: str, when: str, window: Job, waiting: int) -> Path:
    with (folder / "waiting").open("a") as file:
        file.write(f"{waiting} ")
    (folder / "pid").write_text(str(os.getpid()))
    if _is_due(folder, when, window):
        _FAULTS[fault](window)
    path = folder / f"{window.kind.name}_{window.end_hour}.html"
    if isinstance(window, WindowSettled):
        return _settle(path)
    path.write_text(window.station_id)
    return path


def _settle(path: Path) -> Path:
    """Say on a page that it is final; as the real writer, make none where there is none."""
    if path.exists():
        path.write_text(f"{path.read_text()}, final")
    return path


def _is_due(folder: Path, when: str, window: Job) -> bool:
    if when == "once":
        try:
            (folder / "begun").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True
    if when == "broken":
        return window.kind.name == "daily" and (folder / "broken").exists()
    return window.kind.name == when


def _hang(window: Job) -> None:
    while True:
        time.sleep(60)


def _die(window: Job) -> None:
    os._exit(3)


def _fail(window: Job) -> None:
    raise ValueError(f"no report of {window.end_hour}")


def _fail_beyond_exceptions(window: Job) -> None:
    raise NoExceptionError("reference metric not found")


_FAULTS = {"hang": _hang, "die": _die, "fail": _fail, "fail beyond exceptions": _fail_beyond_exceptions}
