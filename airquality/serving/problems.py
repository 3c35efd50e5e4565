"""The answer to a request that cannot be served: one shape for every error, RFC 9457 (problem+json), bounded."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import orjson

MEDIA_TYPE = "application/problem+json"
#: Of each list an answer names: what is wrong shows in the first ones.
MAX_NAMED = 200
_MAX_CHARACTERS = 100


class RequestError(Exception):
    """A request that cannot be answered.

    ``status`` is HTTP's, ``reason`` one of ``airquality.metrics.INFERENCE_ERRORS``, the message is for the caller, and
    ``more`` what else the answer holds.
    """

    def __init__(self, status: int, reason: str, message: str, /, **more: object) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.more = more

    def problem(self) -> dict[str, Any]:
        """Return the answer's body."""
        return problem(self.status, str(self), **{"reason": self.reason, **self.more})


def invalid(message: str, /, **more: object) -> RequestError:
    """Return the refusal of a request that is not what it should be."""
    return RequestError(422, "invalid_request", message, **more)


def problem(status: int, detail: str, **more: object) -> dict[str, Any]:
    """Return a problem as RFC 9457 has it; ``type`` is left out, which means that the status says it all."""
    return {"title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}


def to_bytes(content: dict[str, Any]) -> bytes:
    """Return the body of an answer."""
    return orjson.dumps(content)


def named(names: Iterable[object]) -> list[str]:
    """Return the first names, none of them long.

    >>> named(["a", 1, "b" * 200])[1:] == ["1", "b" * 97 + "..."]
    True
    """
    shown = [str(name) for name, _ in zip(names, range(MAX_NAMED), strict=False)]
    return [name if len(name) <= _MAX_CHARACTERS else name[: _MAX_CHARACTERS - 3] + "..." for name in shown]
