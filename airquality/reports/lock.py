"""The lock of a reports folder, and the folder of ours inside it that holds what is no page.

Several processes write under one reports folder: the report processes of all consumers of a group, and those consumers
themselves for the summary. A holder that is frozen must not stop the others for ever, so waiting has a deadline.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

#: Inside the reports folder: the lock, what is known of the folder, and the parts of the summary.
OWN_FOLDER = ".monitoring"

_PAUSE_SECONDS = 0.02


@contextlib.contextmanager
def locked(reports_dir: Path, timeout_seconds: float) -> Iterator[None]:
    """Hold the lock of ``reports_dir`` while entered; the folder is made if there is none.

    Raises:
        OSError: the folder cannot be made or written; ``TimeoutError`` where another process holds the lock too long.
    """
    folder = reports_dir / OWN_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        _acquire(file.fileno(), reports_dir, time.monotonic() + timeout_seconds)
        yield


def _acquire(descriptor: int, reports_dir: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{reports_dir} is locked by another process") from error
        time.sleep(_PAUSE_SECONDS)
