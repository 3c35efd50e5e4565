"""What may reach a terminal, a log line or a page: no control characters, no credentials."""

from __future__ import annotations

import re

from airquality.ground.addresses import without_credentials

_SECRET_PARAMETER = re.compile(
    r"""([?&;][^=\s&;"']*(?:passw|pwd|token|secret|api_?key)[^=\s&;"']*=)[^\s&;"']*""", re.IGNORECASE
)


def shown(text: str) -> str:
    """Return ``text`` as it may be shown anywhere: :func:`printable`, and no secret in any address.

    >>> shown("asked http://ann:secret@mlflow:5000/api?token=abc&x=1 in vain")
    'asked http://mlflow:5000/api?token=***&x=1 in vain'
    """
    return printable(_SECRET_PARAMETER.sub(r"\1***", without_credentials(text)))


def printable(text: str) -> str:
    r"""Return ``text`` with everything escaped that would act on a terminal, forge a line, or turn text around.

    >>> printable("roof \x1b[31m\nnight")
    'roof \\x1b[31m\\nnight'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
