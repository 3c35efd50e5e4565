"""What may reach a terminal, a log line or a page: no control characters, no credentials."""

from __future__ import annotations

import re

#: From a URL's scheme to the last @ before white space or a quote: a password may itself hold any of : / ? # and @.
_USERINFO = re.compile(r"""([A-Za-z][A-Za-z0-9+.-]*://)[^\s"'<>]*@""")
_SECRET_PARAMETER = re.compile(
    r"""([?&;][^=\s&;"']*(?:passw|pwd|token|secret|api_?key)[^=\s&;"']*=)[^\s&;"']*""", re.IGNORECASE
)


def printable(text: str) -> str:
    r"""Return ``text`` with everything escaped that would act on a terminal, forge a line, or turn text around.

    >>> printable("roof \x1b[31m\nnight")
    'roof \\x1b[31m\\nnight'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def without_credentials(text: str) -> str:
    """Return ``text`` with the user, the password and secret parameters left out of every URL in it.

    >>> without_credentials("asked http://ann:p@ss@mlflow:5000/api?token=abc&x=1 in vain")
    'asked http://mlflow:5000/api?token=***&x=1 in vain'
    """
    if "://" not in text:
        return text
    return _SECRET_PARAMETER.sub(r"\1***", _USERINFO.sub(r"\1", text))


def shown(text: str) -> str:
    """Return ``text`` as it may be shown anywhere: :func:`printable` and :func:`without_credentials`."""
    return printable(without_credentials(text))
