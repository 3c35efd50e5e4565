"""What may reach a terminal, a log line or a page: no control characters, no credentials."""

from __future__ import annotations

import re
from collections.abc import Iterable

from airquality.ground.addresses import without_credentials

#: How many names are shown of many, and how much of each.
_NAMES, _NAME_CHARACTERS = 3, 60
_SECRET_PARAMETER = re.compile(
    r"""([?&;][^=\s&;"']*(?:passw|pwd|token|secret|api_?key)[^=\s&;"']*=)[^\s&;"']*""", re.IGNORECASE
)


def shown(text: str) -> str:
    """Return ``text`` as it may be shown anywhere: :func:`printable`, and no secret in any address.

    >>> shown("asked http://ann:secret@mlflow:5000/api?token=abc&x=1 in vain")
    'asked http://mlflow:5000/api?token=***&x=1 in vain'
    """
    return printable(_SECRET_PARAMETER.sub(r"\1***", without_credentials(text)))


def named(names: Iterable[str]) -> str:
    r"""Return some of the names, each cut and as it may be shown, and how many more there are: others may have chosen them.

    >>> named(["roof", "\x1b[2J", "x" * 100, "yard", "cellar"])
    "'\\x1b[2J', 'cellar', 'roof' and 2 more"
    """
    every = sorted(names)
    shown = ", ".join(f"'{printable(name[:_NAME_CHARACTERS])}'" for name in every[:_NAMES])
    return f"{shown} and {len(every) - _NAMES} more" if len(every) > _NAMES else shown


def printable(text: str) -> str:
    r"""Return ``text`` with everything escaped that would act on a terminal, forge a line, or turn text around.

    >>> printable("roof \x1b[31m\nnight")
    'roof \\x1b[31m\\nnight'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
