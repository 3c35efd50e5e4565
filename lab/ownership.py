"""What ``make run`` may empty: folders that carry its own marker, and reports that are as it left them. Nothing else."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from airquality.ground.errors import UsageError
from airquality.ground.files import write_atomically
from airquality.reports.lock import OWN_FOLDER
from airquality.reports.paths import ASKED_FOR

MARKER_NAME = ".made-by-make-run"
_MARKER_TEXT = "make run made this folder and empties it whenever it starts again. Keep nothing here.\n"
#: In a reports folder: the files the last run left there, each with what tells whether anybody wrote it since.
RECEIPT_NAME = ".reports-of-make-run.json"


@contextmanager
def own_folder(folder: Path) -> Iterator[Path]:
    """Yield ``folder``, empty but for its marker and nobody else's while entered; its content stays afterwards.

    Raises:
        UsageError: the folder holds something and no marker, another run uses it, or it cannot be written.
    """
    try:
        marker = _claim(folder)
    except OSError as error:
        raise UsageError(f"{folder} cannot be used: {error}. Set RUN_DIR to another folder.") from error
    with marker:
        yield folder


def _claim(folder: Path) -> TextIO:
    """Empty the folder and return its marker, locked until it is closed, which the end of this process does too."""
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / MARKER_NAME
    if not marker.exists() and any(folder.iterdir()):
        raise UsageError(
            f"{folder} holds files that make run did not put there, so nothing was removed. Move them away, or set "
            "RUN_DIR to another folder."
        )
    with ExitStack() as stack:
        file = stack.enter_context(marker.open("a"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another make run uses {folder}: wait for it, or set RUN_DIR to another folder.") from error
        empty(folder)
        file.truncate(0)
        file.write(_MARKER_TEXT)
        file.flush()
        stack.pop_all()
    return file


def empty(folder: Path) -> None:
    """Remove everything in ``folder`` but the marker; links are removed, never followed."""
    for path in folder.iterdir():
        if path.name == MARKER_NAME:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def remove_own_folder(folder: Path) -> bool:
    """Remove ``folder`` if it carries the marker and no run uses it; return whether it did."""
    if not (folder / MARKER_NAME).exists():
        return False
    with own_folder(folder):
        pass
    shutil.rmtree(folder)
    return True


def remove_own_reports(folder: Path) -> bool:
    """Remove what the last run left in a reports folder; nothing at all if anything else is there or has changed since.

    Returns:
        Whether the folder holds no reports now. Hidden files do not count; what the run left beside its reports, and
        nobody has written since, goes with them: what was due of it, or its part of a summary, is nobody else's.
    """
    receipt = folder / RECEIPT_NAME
    left = {path.relative_to(folder).as_posix(): path for path in _visible(folder)}
    written = _read_receipt(receipt)
    if any(written.get(name) != _signature(path) for name, path in left.items()):
        return False
    beside = [path for path in _beside(folder) if written.get(path.relative_to(folder).as_posix()) == _signature(path)]
    own = [*left.values(), *beside]
    for path in own:
        path.unlink()
    for parent in sorted({parent for path in own for parent in path.parents}, reverse=True):
        if parent.is_relative_to(folder) and parent != folder and not any(parent.iterdir()):
            parent.rmdir()
    receipt.unlink(missing_ok=True)
    return True


def _read_receipt(path: Path) -> dict[str, object]:
    """Return what a receipt lists; one that cannot be read lists nothing."""
    try:
        written = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return written if isinstance(written, dict) else {}


def sign_reports(folder: Path) -> None:
    """Note in a reports folder that all files in it are this run's, and what lies beside them."""
    written = {path.relative_to(folder).as_posix(): _signature(path) for path in (*_visible(folder), *_beside(folder))}
    write_atomically(folder / RECEIPT_NAME, (json.dumps(written, indent=1) + "\n").encode())


def _visible(folder: Path) -> list[Path]:
    """Return the reports below ``folder``, links included: all files that are neither hidden at its top nor asked for."""
    return [
        path
        for path in folder.rglob("*")
        if (path.is_symlink() or not path.is_dir()) and not path.relative_to(folder).parts[0].startswith((".", ASKED_FOR))
    ]


def _beside(folder: Path) -> list[Path]:
    """Return what lies beside the reports in the folder of ours: what is due, parts of the summary; not the lock."""
    return [path for path in (folder / OWN_FOLDER).rglob("*") if not path.is_dir() and path != folder / OWN_FOLDER / "lock"]


def _signature(path: Path) -> list[int]:
    """Return what changes when a file is written again, be it with the same content."""
    found = os.lstat(path)
    return [found.st_ino, found.st_size, found.st_mtime_ns]
