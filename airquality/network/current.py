"""The network this process works for: UCI data set 360, or what ``AIR_QUALITY_NETWORK`` names as ``module:NAME``.

It is read once, when the first module asks for it: the names and the number of columns, features and detector channels
follow from it, and a process, its model and its topics serve one network. A wrong name ends the program with exit code 2.
"""

from __future__ import annotations

import os
import sys

from airquality.ground import command, places
from airquality.ground.errors import UsageError
from airquality.network.declaration import Network

VARIABLE = "AIR_QUALITY_NETWORK"
DEFAULT = "airquality.network.uci_360:UCI_360"


def load(place: str) -> Network:
    """Return the network declared at ``module:NAME``.

    Raises:
        UsageError: there is none, or it contradicts itself; the message says what to do.
    """
    try:
        found = places.load(place)
    except UsageError as error:
        raise UsageError(f"{VARIABLE}={place}: no network there ({error.__cause__}); name it as module:NAME") from error
    if not isinstance(found, Network):
        raise UsageError(f"{VARIABLE}={place} is {type(found).__name__}, not a Network: declare one as {DEFAULT} does")
    return found


def _declared() -> Network:
    try:
        return load(os.environ.get(VARIABLE) or DEFAULT)
    except UsageError as error:
        print(error, file=sys.stderr)
        raise SystemExit(command.USAGE) from error


NETWORK = _declared()
