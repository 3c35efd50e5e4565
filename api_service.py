"""Serve predictions of the registry's champion over HTTP.

The model is loaded while the service starts and again whenever the champion alias moves; a request is answered by one
model from beginning to end.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from airquality.ground import command, log
from airquality.ground.errors import UsageError
from airquality.ground.settings import Settings, read_settings
from airquality.model import features
from airquality.records import HISTORY_HOURS, Reading
from feature_buffer import FeatureBuffer

if TYPE_CHECKING:
    from fastapi import FastAPI

    from airquality.serving.slots import Slot

_DESCRIPTION = """Serve predictions of the registry's champion over HTTP (MLFLOW_TRACKING_URI says which registry).

It starts without a model and says why it is not ready until one is the champion. Ctrl-C stops it."""
_EXAMPLES = """examples:
  python api_service.py                          http://localhost:8000/ : start page, documentation, reports
  python api_service.py --port 8010              beside another one
  API_KEY=... python api_service.py --host 0.0.0.0
                                                 for other machines that send X-API-Key; API_OPEN=1 for all of them. They
                                                 name this one by its address, or by a name in API_ALLOWED_HOSTS
"""


def create_app(settings: Settings | None = None, slots: Sequence[Slot] | None = None) -> FastAPI:
    """Return the application of all registered models, or of these ``slots``.

    Settings are read and models are loaded when it starts, not when it is made.
    """
    from airquality.serving import application  # FastAPI and MLflow take three seconds, which no --help should
    from airquality.serving.slots import SLOTS

    return application.create(settings, newest_features, __doc__ or "", SLOTS if slots is None else slots)


def __getattr__(name: str) -> FastAPI:
    """Return ``app``, which ``uvicorn api_service:app`` asks for; it is made then."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made: FastAPI = globals().setdefault("app", create_app())
    return made


def newest_features(readings: Sequence[Reading]) -> NDArray[np.float64] | None:
    """Return the feature row of the newest reading, shape ``(1, n_features)``, as the stream computes it.

    The station counts as warm before the first reading: a caller who sends a station's last week knows no more of it. None
    if a silence of 168 hours or more lies behind the newest reading, after which it would have to warm up again.

    Raises:
        InvalidRecord: the readings are not in time order, or contradict each other.
    """
    buffer = FeatureBuffer()
    buffer.warmed_hours = HISTORY_HOURS
    for reading in readings:
        buffer.push(reading)
    grid, ready = buffer.take()
    if not ready or ready[-1][1] != buffer.newest_hour:
        return None
    position, hour = ready[-1]
    return features.rows(grid, np.array([hour], dtype=np.int64), np.array([position], dtype=np.intp))


def main(argv: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    args = _parser().parse_args(argv)
    return command.run("api_service.py", lambda: _serve(args.host, args.port))


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("python api_service.py", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (%(default)s: this machine only)")
    parser.add_argument("--port", type=command.port, default=8000, help="%(default)s")
    return parser


def _serve(host: str, port: int) -> None:
    import uvicorn

    settings = read_settings()
    log.configure(settings.log_level, settings.log_format)
    with _listening(host, port) as listener:
        shown = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        say = log.speaker("api_service", settings.log_format)
        say(f"http://{shown}:{listener.getsockname()[1]}/ (documentation at /docs; Ctrl-C stops it)")
        config = uvicorn.Config(
            create_app(settings), access_log=False, log_config=None, timeout_graceful_shutdown=5, workers=1
        )
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn has finished its requests, then says how it was asked to
            uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raises ``UsageError`` at once if the address cannot be had."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. Another program may have it: choose another --port "
            f"(and API_URL=http://localhost:<port> for the consumer)"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
