"""Objects named by where they are, ``module:NAME``: a line of text, imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import Any

from airquality.ground.errors import UsageError


def load(place: str) -> Any:
    """Return the object at ``module:NAME``; raises ``UsageError`` if there is none.

    >>> load("math:pi")
    3.141592653589793
    """
    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UsageError(f"{place}: nothing there ({error}); name it as module:NAME") from error
