"""The consumers of a group: when they share the partitions, how far they have committed, and what they say at their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from airquality.ground.settings import Settings
from benchmarks.ground import Task
from lab.waiting import Failed, wait_until

_SHARED_SECONDS = 120.0
_COMMITTED_SECONDS = 600.0
_ANSWER_SECONDS = 10.0


class Group:
    """Consumers that run as processes of their own until the end of the ``with`` block."""

    def __init__(self, settings: Settings, members: Sequence[Task]) -> None:
        self._group, self._raw_topic = settings.consumer_group, settings.raw_topic
        self._members = members
        self._admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.child.kill()

    def await_shared(self, partitions: int) -> None:
        """Return once every member has partitions, and each partition a member."""
        self._await(lambda: self._is_shared(partitions), "every consumer has partitions", _SHARED_SECONDS)

    def await_committed(self, n_rows: int) -> None:
        """Return once the group has committed the first ``n_rows`` of the raw topic, all that are there."""
        self._await(lambda: self._committed() == n_rows, f"{n_rows:,} rows are committed", _COMMITTED_SECONDS)

    def stopped(self) -> list[dict[str, Any]]:
        """Ask all members to end and return what each says."""
        for member in self._members:
            member.stop()
        return [member.result() for member in self._members]

    def _await(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait for a condition; raises ``Failed`` with the words of a member that ended meanwhile."""
        wait_until(lambda: bool(self._ended()) or condition(), what, seconds)
        if ended := self._ended():
            raise Failed(f"a consumer ended before {what}: {ended[0].said()[-2000:]}")

    def _ended(self) -> list[Task]:
        return [member for member in self._members if member.child.poll() is not None]

    def _is_shared(self, partitions: int) -> bool:
        [asked] = self._admin.describe_consumer_groups([self._group]).values()
        shares = [len(member.assignment.topic_partitions) for member in asked.result(_ANSWER_SECONDS).members]
        return len(shares) == len(self._members) and all(shares) and sum(shares) == partitions

    def _committed(self) -> int:
        [asked] = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(self._group)]).values()
        offsets = asked.result(_ANSWER_SECONDS).topic_partitions
        return sum(max(each.offset, 0) for each in offsets if each.topic == self._raw_topic)
