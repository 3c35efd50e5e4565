"""Files that no reader, and no crash, ever sees half of; and what lies in a folder, whatever that is."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` by way of a temporary file beside it; durable once this returns.

    Raises:
        OSError: the folder cannot be made or written, or the disk is full; ``path`` is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:  # it names what the caller named, not the file beside it
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # where it cannot be removed, it could not be made
            temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder; a link in a circle, or to a share that is gone, is none, and no error."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; a file system that cannot sync a folder has nothing to add."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)
