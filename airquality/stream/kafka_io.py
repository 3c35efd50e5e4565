"""What every client of Kafka here needs, with every setting on purpose: connections, topics, reading to the end.

Defaults of the client that would lose or repeat rows are overridden here and nowhere else: auto-commit, reset to latest,
reading uncommitted records.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import (
    InconsistentGroupProtocolError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    SaslAuthenticationFailedError,
)
from kafka.net.compat import KafkaNetClient

from airquality.ground.errors import AirQualityError, ContractError, Denied, Refused, Unavailable, UsageError
from airquality.ground.settings import Settings
from airquality.stream import refusals, tls, topics
from airquality.stream.account import Topics
from airquality.stream.batches import Unread, read_any_batch
from airquality.stream.topics import TOPIC_CONFIGS

CONNECT_TIMEOUT_MS = 3_000
TOPIC_SECONDS = 10.0
LOOK_AGAIN_SECONDS = 0.1
#: How soon after its start a client that only reads asks for the metadata of its topics. By itself it waits 100 ms, whatever
#: it is told; a consumer's start reads several things one after the other, and waited more than half a second.
METADATA_AGAIN_MS = 20
#: How long reading a partition to its end may stand still: longer than a dead worker's transaction can hold it up.
STALL_SECONDS = 60.0

#: The errors that mean that there was no answer, as opposed to one that says no.
_NO_ANSWER = (KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError)
#: How the client says that it has looked in vain for the leader of a topic that it writes to.
_NO_LEADER = "Failed to update metadata"
#: An error of the client may quote a whole request.
_QUOTED_CHARACTERS = 300

logger = logging.getLogger(__name__)


class Record(NamedTuple):
    """One record of a topic, bytes untouched.

    ``timestamp_ms`` is Kafka's: milliseconds since 1970 (UTC), of the broker where the topic says ``LogAppendTime``, of the
    producer where it says ``CreateTime``; negative where the record has none. ``unread`` says that its batch is too large to
    be read, so that nothing but its place is known. A header's value may be null.
    """

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int = -1
    headers: tuple[tuple[str, bytes | None], ...] = ()
    unread: bool = False


def topic_names(settings: Settings) -> dict[str, str]:
    """Return the name of each topic by its role."""
    return {
        "raw": settings.raw_topic,
        "pred": settings.pred_topic,
        "state": settings.state_topic,
        "dlq": settings.dlq_topic,
        "events": settings.events_topic,
    }


def ensure_topics(settings: Settings, roles: Iterable[str] = tuple(TOPIC_CONFIGS)) -> None:
    """Create the topics that do not exist; existing ones stay as they are, and what is wrong with them is logged.

    Where the raw topic exists the others are made with as many partitions as it has: that is where its stations are.

    Args:
        settings: Their names, and how they are made.
        roles: Which topics are needed.

    Raises:
        Unavailable: no broker answers.
        Denied: they may not be seen, or made; the message says what an administrator has to make.
    """
    names = {role: name for role, name in topic_names(settings).items() if role in set(roles)}
    if settings.kafka_api_version:  # librdkafka's mock has no controller to ask: it makes a topic when a producer names it
        with kafka_errors_as_unavailable(settings), closing(open_producer(settings)) as producer:
            for name in names.values():
                producer.partitions_for(name)
        logger.info(
            "the mock cluster has neither topic ids nor settings: whether the topics are the right ones is not checked"
        )
        return
    with kafka_errors_as_unavailable(settings, "DESCRIBE"), closing(open_admin(settings)) as admin:
        topics.ensure(admin, settings, names)


def partitions(settings: Settings, topic: str) -> list[int]:
    """Return the topic's partitions; raises ``ContractError`` if there is no such topic, ``Unavailable`` if no broker."""
    with kafka_errors_as_unavailable(settings), closing(_reader(settings, "read_uncommitted")) as client:
        return _partitions_of(settings, client, topic)


def _partitions_of(settings: Settings, client: KafkaConsumer, topic: str) -> list[int]:
    deadline = time.monotonic() + TOPIC_SECONDS
    while not (found := client.partitions_for_topic(topic)):  # a topic made a moment ago may not have spread yet
        _require_visible(settings, topic)
        if time.monotonic() > deadline:
            raise ContractError(f"there is no topic {topic}: run python -m airquality topics")
        time.sleep(0.1)
    return sorted(found)


def _require_visible(settings: Settings, topic: str) -> None:
    """Raise ``Denied`` where a topic is absent only to this process: the list of all topics leaves it out."""
    if not settings.kafka_api_version:
        with closing(open_admin(settings)) as admin:
            topics.require_visible(topics.describe(admin, {"": topic}).values(), settings)


def idempotent_producer(settings: Settings) -> KafkaProducer:
    """Return a producer whose retries never write a record twice; raises ``Unavailable`` if no broker answers."""
    with kafka_errors_as_unavailable(settings, "WRITE"):
        return open_producer(settings, enable_idempotence=True, linger_ms=5, batch_size=64 * 1024)


class _LookingAgain(KafkaNetClient):  # type: ignore[misc]
    """A connection that says no where the one of kafka-python 3.0 raises.

    Its transactions ask a coordinator that does not answer for another, but after an error they forget what they wanted of
    it: whoever waits for the transaction then waits for ever. Each no takes a moment, for until the cluster has noticed a
    lost broker it names it again.
    """

    def await_ready(self, node_id: str | int, timeout_ms: float = 30_000) -> bool:
        try:
            return bool(super().await_ready(node_id, timeout_ms))
        except KafkaConnectionError:
            time.sleep(LOOK_AGAIN_SECONDS)
            return False


def open_producer(settings: Settings, **config: Any) -> KafkaProducer:
    """Return a producer that waits for all replicas, connected."""
    return KafkaProducer(**_connection(settings), acks="all", kafka_client=_LookingAgain, **config)


def open_consumer(settings: Settings, **config: Any) -> KafkaConsumer:
    """Return a consumer that commits nothing by itself, connected."""
    return KafkaConsumer(**_connection(settings), enable_auto_commit=False, **config)


def open_admin(settings: Settings) -> KafkaAdminClient:
    """Return an administrator's client, connected."""
    return KafkaAdminClient(**_connection(settings))


class _Hidden(str):
    """A secret in the client's configuration, which the client may print."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def _connection(settings: Settings) -> dict[str, Any]:
    """Return the arguments every client connects with.

    Raises:
        UsageError: a file of certificates or of a password cannot be used.
    """
    read_any_batch()
    connection: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers.split(","),
        "bootstrap_timeout_ms": CONNECT_TIMEOUT_MS,
        "reconnect_backoff_max_ms": 2_000,
        "security_protocol": settings.kafka_security_protocol,
    }
    if settings.uses_tls:
        connection["ssl_context"] = tls.context(settings)
    if settings.uses_sasl:
        connection["sasl_mechanism"] = settings.kafka_sasl_mechanism
        connection["sasl_plain_username"] = settings.kafka_sasl_username
        connection["sasl_plain_password"] = _Hidden(_password(settings))
    if settings.kafka_api_version:
        connection["api_version"] = tuple(int(part) for part in settings.kafka_api_version.split("."))
    return connection


def _password(settings: Settings) -> str:
    try:
        return settings.sasl_password()
    except ValueError as error:
        raise UsageError(str(error)) from None


@contextmanager
def kafka_errors_as_unavailable(settings: Settings, operation: str = "READ") -> Iterator[None]:
    """Turn the client's errors into ``Unavailable``, which waiting can mend, or ``Denied``, which it cannot.

    ``operation`` is what the block asks for of topics, in the words of Kafka's access rules.
    """
    try:
        yield
    except KafkaError as error:
        raise failure(error, settings, operation) from error


def denied(error: BaseException, settings: Settings, operation: str) -> Denied | None:
    """Return the ``Denied`` that an error of the client means, None if it is no access rule that is missing."""
    wanted = refusals.missing_right(error, settings, operation)
    return Denied(wanted) if wanted else None


def failure(error: BaseException, settings: Settings, operation: str) -> AirQualityError:
    """Return what an error of the client means for this process."""
    if refused := denied(error, settings, operation):
        return refused
    if isinstance(error, InconsistentGroupProtocolError):
        return Unavailable(
            f"another program is a member of group {settings.consumer_group} and shares partitions out in another way: end "
            f"it, or give it a group of its own"
        )
    if isinstance(error, (*_NO_ANSWER, SaslAuthenticationFailedError)):
        if reason := refusals.refusal(settings):
            return Denied(reason)
        if _NO_LEADER in str(error):
            return Unavailable(
                f"Kafka at {settings.kafka_bootstrap_servers} knows no broker to write a topic to: brokers are away, or the "
                f"topic was deleted (python -m airquality topics --check says which)"
            )
        return Unavailable(
            f"no Kafka broker answers at {settings.kafka_bootstrap_servers} ({type(error).__name__}): "
            "start it, or set KAFKA_BOOTSTRAP_SERVERS to where it is"
        )
    return Unavailable(
        f"Kafka at {settings.kafka_bootstrap_servers} answers {type(error).__name__}: {str(error)[:_QUOTED_CHARACTERS]}"
    )


def read(
    settings: Settings, topic: str, partition: int, start: int | None = None, stop: int | None = None
) -> Iterator[Record]:
    """Yield a partition's committed records from ``start`` (None: the oldest) up to ``stop`` (None: today's end), exclusive.

    The end is the last record written, committed or not: while a transaction is open before it, this waits for its outcome.

    Raises:
        Unavailable: no broker answers, or nothing moved for a minute.
    """
    assigned = TopicPartition(topic, partition)
    first, end = start, stop  # an offset before the oldest is the oldest's: the client begins there
    if first is None or end is None:
        oldest, newest = log_ranges(settings, [topic], partition)[topic]
        first, end = oldest if first is None else first, newest if end is None else end
    with kafka_errors_as_unavailable(settings), closing(_reader(settings, "read_committed")) as client:
        client.assign([assigned])
        client.seek(assigned, first)
        moved = time.monotonic()
        while (position := client.position(assigned)) < end:
            for record in client.poll(timeout_ms=200).get(assigned, ()):
                if record.offset < end:
                    yield record_of(record)
            if client.position(assigned) > position:
                moved = time.monotonic()
            elif time.monotonic() - moved > STALL_SECONDS:
                raise Unavailable(
                    f"{topic}-{partition} is read up to {position} of {end} only: a transaction is open there, of whoever "
                    f"wrote last. Kafka ends it once its time is up, 15 minutes at most by default; one that stays, "
                    f"kafka-transactions.sh (find-hanging, abort) ends"
                )


def record_of(consumed: Any) -> Record:
    """Return the client's record as ours."""
    if consumed.headers and isinstance(consumed.headers[0][0], Unread):
        return Record(consumed.partition, consumed.offset, None, None, consumed.timestamp, unread=True)
    return Record(
        consumed.partition, consumed.offset, consumed.key, consumed.value, consumed.timestamp, tuple(consumed.headers)
    )


def log_ranges(settings: Settings, topics: Iterable[str], partition: int) -> dict[str, tuple[int, int]]:
    """Return, by topic, the oldest offset of the partition that is there, and the offset its next record gets."""
    assigned = [TopicPartition(topic, partition) for topic in topics]
    with kafka_errors_as_unavailable(settings), closing(_reader(settings, "read_uncommitted")) as client:
        starts, ends = client.beginning_offsets(assigned), client.end_offsets(assigned)
    return {each.topic: (int(starts[each]), int(ends[each])) for each in assigned}


def topics_now(settings: Settings) -> Topics:
    """Return the ids and the partition count of the topics.

    Raises:
        ContractError: a topic is absent.
        Denied: this process may not know of one.
        Refused: their partition counts differ.
    """
    names = topic_names(settings)
    with kafka_errors_as_unavailable(settings), closing(_reader(settings, "read_uncommitted")) as client:
        counts = {name: len(_partitions_of(settings, client, name)) for name in names.values()}
        ids = {role: topic_id(client, name) for role, name in names.items() if role != "events"}  # nothing is restored of it
    if len(set(counts.values())) != 1:
        raise Refused(
            f"the topics must have equal numbers of partitions, found {counts}: python -m airquality repartition "
            f"raises the others, too, and moves the stations"
        )
    return Topics(**ids, partitions=counts[settings.raw_topic])


def topic_id(client: KafkaConsumer, name: str) -> str | None:
    """Return the topic's id (KIP-516), None where the broker gives none; the client has no public way to ask."""
    found = client._cluster.topic_id(name)
    return None if found is None or found.int == 0 else found.hex


def group_positions(settings: Settings, n_partitions: int) -> dict[int, tuple[int, str]]:
    """Return the group's offset of every raw partition that has one, and the note committed with it; joins no group."""
    if settings.kafka_api_version:  # librdkafka's mock keeps none
        return {}
    every = [TopicPartition(settings.raw_topic, partition) for partition in range(n_partitions)]
    with (
        kafka_errors_as_unavailable(settings),
        closing(_reader(settings, "read_uncommitted", group_id=settings.consumer_group)) as client,
    ):
        committed = {tp.partition: client.committed(tp, metadata=True, timeout_ms=CONNECT_TIMEOUT_MS) for tp in every}
    return {p: (found.offset, found.metadata or "") for p, found in committed.items() if found and found.offset >= 0}


def await_partitions(settings: Settings, topic: str, n_partitions: int) -> None:
    """Return once the brokers know that the topic has so many partitions; raises ``Unavailable`` if that takes too long."""
    deadline = time.monotonic() + TOPIC_SECONDS
    while len(partitions(settings, topic)) < n_partitions:
        if time.monotonic() > deadline:
            raise Unavailable(f"{topic} does not have its {n_partitions} partitions yet: run this again")
        time.sleep(0.1)


def _reader(settings: Settings, isolation_level: str, group_id: str | None = None) -> KafkaConsumer:
    client = open_consumer(
        settings,
        isolation_level=isolation_level,
        group_id=group_id,
        auto_offset_reset="earliest",
        allow_auto_create_topics=bool(settings.kafka_api_version),
        check_crcs=not settings.kafka_api_version,  # librdkafka's mock changes later batches without mending their checksums
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=8 * 1024 * 1024,
        max_poll_records=2_000,
    )
    client._cluster.config["retry_backoff_ms"] = METADATA_AGAIN_MS  # the client does not pass its own setting on
    return client
