"""Whether this installation can speak to the database that an address names."""

from __future__ import annotations

from airquality.ground.errors import UsageError
from airquality.ground.shown import shown


def require_driver(name: str, uri: str) -> None:
    """Return if ``uri`` is a server's, or a database's whose driver is installed.

    Args:
        name: The variable that holds ``uri``.
        uri: The address.

    Raises:
        UsageError: no driver, or no such kind of database; waiting would not mend it.
    """
    if uri.startswith(("http://", "https://")):
        return
    try:
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise UsageError(_message(name, uri, "this installation reaches a registry over http:// only")) from error
    try:
        make_url(uri).get_dialect().import_dbapi()
    except (SQLAlchemyError, ValueError) as error:
        raise UsageError(_message(name, uri, f"no such kind of database is known ({str(error).splitlines()[0]})")) from error
    except ImportError as error:
        raise UsageError(_message(name, uri, f"its driver is not installed: pip install {error.name}")) from error


def _message(name: str, uri: str, why: str) -> str:
    return shown(f"{name}={uri}: {why}")
