"""Addresses: as a library reads them, and as they may be shown."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

_SQLITE = "sqlite:///"

#: ``user:password@`` of an address, also where a careless password holds a slash; a port is none.
_CREDENTIALS = re.compile(r"(?<=://)(?:[^\s/?#'\"]*|[^\s/@:]*:(?!\d+/)[^\s'\"]*)@")


def without_credentials(text: str) -> str:
    """Return the text with user names and passwords cut out of every address in it.

    >>> without_credentials("GET http://me:secret@registry:5000/x failed; sqlite:////home/me@work/mlflow.db")
    'GET http://registry:5000/x failed; sqlite:////home/me@work/mlflow.db'
    """
    return _CREDENTIALS.sub("", text)


def sqlite_path(uri: str) -> Path | None:
    """Return the database file of a sqlite URI, read as SQLAlchemy reads it; None for any other URI."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(unquote(uri.removeprefix(_SQLITE).partition("?")[0]))
