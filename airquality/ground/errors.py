"""The one taxonomy of failures, and what each means for the process that meets it."""

from __future__ import annotations

from airquality.ground.shown import printable

#: A message may quote a record, and must fit the headers of its dead letter however large that record is.
MAX_MESSAGE_CHARACTERS = 500


class AirQualityError(Exception):
    """A failure this system knows by name; what is done about which is decided in ``airquality.stream.patience``."""


class InvalidRecord(AirQualityError):
    """A record that cannot enter the stream: it goes to the dead-letter topic with its ``reason``.

    ``reason`` is one of :data:`airquality.records.DEAD_LETTER_REASONS`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(printable(message[:MAX_MESSAGE_CHARACTERS])[:MAX_MESSAGE_CHARACTERS])
        self.reason = reason


class Unavailable(AirQualityError):
    """A service this process needs does not answer now; the same call may succeed later."""


class Denied(AirQualityError):
    """A service answers and refuses this process: who it says it is, or what it asks for. Waiting cannot mend it."""


class UsageError(AirQualityError):
    """What the user asked for cannot be done as asked; the message says what to do instead (exit code 2)."""


class ContractError(AirQualityError):
    """Two parts of the system disagree on names, order, hashes or counts: stop before publishing anything."""


class Refused(ContractError):
    """The consumer must not go on by itself: what Kafka holds does not belong together. An operator has to decide."""
