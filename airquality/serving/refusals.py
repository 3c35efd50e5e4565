"""Requests that cannot be answered, and why."""

from __future__ import annotations

from typing import Any


class RequestError(Exception):
    """A request that cannot be answered: HTTP ``status``, a ``reason`` for the metric, and ``detail`` for the caller."""

    def __init__(self, status: int, reason: str, detail: dict[str, Any]) -> None:
        super().__init__(detail["error"])
        self.status = status
        self.reason = reason
        self.detail = detail
