"""What an operator's tool writes: one run of a kind and group at a time, in transactions that are whole or not there.

A run that begins takes the place of one before it, whether that was killed or is at work beside it: what that one has not
committed is gone at once, and it can commit nothing more. So what a run reads after it has begun is all that others did.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

from kafka import KafkaProducer
from kafka.errors import KafkaError

from airquality.ground.errors import ContractError
from airquality.ground.settings import Settings
from airquality.stream import kafka_io
from airquality.stream.kafka_io import kafka_errors_as_unavailable

#: How the client says that another producer took over, in an error of its own or quoted in another.
_TAKEN_OVER = ("ProducerFenced", "InvalidProducerEpoch")


@dataclass(frozen=True)
class Alone:
    """A run that nobody has taken the place of yet."""

    what: str
    producer: KafkaProducer

    @contextmanager
    def transaction(self) -> Iterator[KafkaProducer]:
        """Commit what is sent while entered, all or nothing.

        Raises:
            ContractError: another run took this one's place meanwhile.
        """
        try:
            self.producer.begin_transaction()
            with self._aborted_by_errors():
                yield self.producer
            self.producer.commit_transaction()
        except KafkaError as error:
            if any(name in f"{type(error).__name__} {error}" for name in _TAKEN_OVER):
                raise ContractError(
                    f"another {self.what} of this group began meanwhile and took over: what this one had not committed is "
                    f"undone. Run it again to see what is left to do"
                ) from error
            raise

    @contextmanager
    def _aborted_by_errors(self) -> Iterator[None]:
        """Leave no open transaction behind, for which readers would wait."""
        try:
            yield
        except BaseException:
            with suppress(KafkaError):
                self.producer.abort_transaction()
            raise


@contextmanager
def alone(settings: Settings, what: str, transaction_timeout_ms: int) -> Iterator[Alone]:
    """Begin a run and end every other one of its kind and group.

    Args:
        settings: Where Kafka is, and the group.
        what: The kind, as an operator calls it.
        transaction_timeout_ms: How long readers may have to wait for a transaction whose run was killed.

    Raises:
        Unavailable: no broker answers.
        Denied: it may not be done.
    """
    name = f"{settings.consumer_group}-{what.replace(' ', '-')}"
    with (
        kafka_errors_as_unavailable(settings, "WRITE"),
        closing(
            kafka_io.open_producer(settings, transactional_id=name, transaction_timeout_ms=transaction_timeout_ms)
        ) as producer,
    ):
        producer.init_transactions()
        yield Alone(what, producer)
