"""Say in one line what the Kafka client says in hundreds while a broker restarts or a transaction is open."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

#: A remark for the client's own developers: that this process did something else for a tenth of a second.
_BUSY = "blocking the event loop"
_NO_ANSWER = (
    "[Cc]onnect",
    "[Bb]ootstrap",
    "[Mm]etadata",
    "coordinator",
    "No node available",
    "Error sending",
    "Abort",
    "timed out",
    "network data",  # the client's own traceback of a connection that TLS ended
    "E[A-Z]{4,}",  # the operating system's: ECONNREFUSED, EHOSTUNREACH, ...
)
#: A burst of lines that is over before this is a connection that was renewed, and no news.
OUTAGE_SECONDS = 5.0
#: Lines that come after a silence of this long are of another outage.
QUIET_SECONDS = 15.0
#: While it lasts, it is said again this often.
AGAIN_SECONDS = 60.0


@dataclass
class _Episode:
    """Lines of one kind that follow each other: what they look like, what is said of them, and after how long."""

    pattern: re.Pattern[str]
    sentence: str
    after_seconds: float
    began: float = 0.0
    seen: float = float("-inf")
    said: float = float("-inf")

    def is_due(self, now: float) -> bool:
        """Take note of a line at ``now``; return whether the sentence is to be said."""
        if now - self.seen > QUIET_SECONDS:
            self.began, self.said = now, float("-inf")
        self.seen = now
        due = now - self.began >= self.after_seconds and now - self.said >= AGAIN_SECONDS
        if due:
            self.said = now
        return due


class KafkaLines(logging.Filter):
    """Replace the client's lines on connections and open transactions; let its others through, each once a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._others: dict[tuple[str, str], float] = {}
        self._episodes = (
            _Episode(
                re.compile(r"UnstableOffsetCommit|error fetching offsets"),
                "waiting for a transaction to end; no row is lost",
                0.0,
            ),
            _Episode(
                re.compile("|".join(_NO_ANSWER)),
                "Kafka does not answer; no row is lost",
                OUTAGE_SECONDS,
            ),
        )

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written, with its text replaced where it is one of many."""
        if record.name.partition(".")[0] != "kafka":
            return True
        now, text = self._clock(), record.getMessage()
        if _BUSY in text:
            return False
        for episode in self._episodes:
            if episode.pattern.search(text):
                record.msg, record.args, record.exc_info = episode.sentence, (), None
                record.levelno, record.levelname = logging.WARNING, "WARNING"
                return episode.is_due(now)
        return self._is_new(record, now)

    def _is_new(self, record: logging.LogRecord, now: float) -> bool:
        kind = record.name, str(record.msg)
        new = now - self._others.get(kind, float("-inf")) >= AGAIN_SECONDS
        if new:
            self._others[kind] = now
        return new
