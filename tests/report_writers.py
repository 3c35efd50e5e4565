"""Stand-ins for the writer of reports, opened in the report process: fast, and faulty on demand."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Sequence
from pathlib import Path

from airquality.reports.child import OpenWriter, Part, Write
from airquality.reports.due import Due, DueFolder
from airquality.reports.lock import locked


class NoExceptionError(BaseException):
    """Evidently has one of these."""


def plain(folder: Path) -> OpenWriter:
    """Return an opener whose writer leaves a small file per window, and a line in ``made`` for each thing it makes."""
    return functools.partial(_open, folder, "", "")


def faulty(folder: Path, fault: str, when: str) -> OpenWriter:
    """Return an opener whose writer has ``fault`` on some windows.

    ``when`` is ``"once"``, the first thing that is made; ``"daily"``, every daily window; ``"broken"``, every daily one
    while a file of that name is there; or the part that is faulty, ``"pages"`` or ``"evidence"``, while that file is there.
    """
    return functools.partial(_open, folder, fault, when)


def never_ready(part: Part) -> Write:
    """End the process before it has a writer."""
    os._exit(7)


def made(folder: Path) -> list[str]:
    """Return what the writers made, in that order: ``page daily 307835``."""
    lines = folder / "made"
    return lines.read_text().splitlines() if lines.exists() else []


def _open(folder: Path, fault: str, when: str, part: Part) -> Write:
    return functools.partial(_write_all, folder, fault, when, part)


def _write_all(folder: Path, fault: str, when: str, part: Part, dues: Sequence[Due]) -> list[Path]:
    return [_write(folder, fault, when, part, due) for due in dues]


def _write(folder: Path, fault: str, when: str, part: Part, due: Due) -> Path:
    (folder / f"pid-{part}").write_text(str(os.getpid()))
    if _is_due(folder, when, part, due):
        _FAULTS[fault](folder, due)
    path, stored = folder / f"{due.kind.name}_{due.end_hour}.html", DueFolder(folder)
    content = stored.read(due)
    if content is None:
        return path
    with (folder / "made").open("a") as file:
        file.write(f"{due.stage} {due.kind.name} {due.end_hour}\n")
    if due.stage == "page":
        path.write_text(due.station_id)
    elif path.exists():  # as the real writer, make none where there is none
        path.write_text(f"{path.read_text()}, {'final' if due.stage == 'truth' else 'drawn'}")
    if due.stage != "truth" or stored.read(due.then("page")) is None:
        stored.advance(due, content)
    return path


def _is_due(folder: Path, when: str, part: Part, due: Due) -> bool:
    if when == "once":
        try:
            (folder / "begun").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True
    if when in ("broken", "pages", "evidence"):
        return due.kind.name == "daily" and when in ("broken", part) and (folder / "broken").exists()
    return due.kind.name == when


def _hang(folder: Path, due: Due) -> None:
    while True:
        time.sleep(60)


def _wait(folder: Path, due: Due) -> None:
    """Leave a file that says so, and wait until that is gone."""
    waiting = folder / f"waiting-{os.getpid()}"
    waiting.touch()
    while waiting.exists():
        time.sleep(0.01)


def _hold(folder: Path, due: Due) -> None:
    """Take as long as on a busy machine over what needs the folder to itself."""
    with locked(folder, 10.0):
        _wait(folder, due)


def _die(folder: Path, due: Due) -> None:
    os._exit(3)


def _fail(folder: Path, due: Due) -> None:
    raise ValueError(f"no report of {due.end_hour}")


def _fail_beyond_exceptions(folder: Path, due: Due) -> None:
    raise NoExceptionError("reference metric not found")


_FAULTS = {
    "hang": _hang,
    "wait": _wait,
    "hold": _hold,
    "die": _die,
    "fail": _fail,
    "fail beyond exceptions": _fail_beyond_exceptions,
}
