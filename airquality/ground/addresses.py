"""Addresses: as a library reads them, and as they may be shown."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote

_SQLITE = "sqlite:///"

#: ``user:password@`` of an address, also where a careless password holds a slash; a port is none.
_CREDENTIALS = re.compile(r"(?<=://)(?:[^\s/?#'\"]*|[^\s/@:]*:(?!\d+/)[^\s'\"]*)@")


def without_credentials(text: str) -> str:
    """Return the text with user names and passwords cut out of every address in it.

    >>> without_credentials("GET http://me:secret@registry:5000/x failed; sqlite:////home/me@work/mlflow.db")
    'GET http://registry:5000/x failed; sqlite:////home/me@work/mlflow.db'
    """
    return _CREDENTIALS.sub("", text)


def sqlite_uri(database: Path) -> str:
    """Return the tracking URI of a database file.

    Only what SQLAlchemy would misread is escaped: MLflow makes an empty folder of the name as it is written here.

    >>> sqlite_uri(Path("/data/50% #2/a%20b?/mlflow.db"))
    'sqlite:////data/50% #2/a%2520b%3F/mlflow.db'
    """
    return _SQLITE + re.sub(r"%(?=[0-9A-Fa-f]{2})|\?", lambda found: quote(found[0]), str(database))


def sqlite_path(uri: str) -> Path | None:
    """Return the database file of a sqlite URI, read as SQLAlchemy reads it; None for any other URI."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(unquote(uri.removeprefix(_SQLITE).partition("?")[0]))
