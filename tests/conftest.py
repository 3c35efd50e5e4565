"""What several test modules share: how hard hypothesis looks, and a real broker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from lab.embedded_kafka import Broker

# The same commit gets the same verdict; `pytest --hypothesis-profile=search` looks elsewhere, and longer.
settings.register_profile("ci", deadline=None, max_examples=40, derandomize=True, database=None, print_blob=True)
settings.register_profile("search", deadline=None, max_examples=1_000, print_blob=True)
settings.load_profile("ci")


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """A real Apache Kafka, shared by the session; without one a test is skipped, or fails where one was promised."""
    from lab import embedded_kafka

    with embedded_kafka.start() as broker:
        if broker.kind == "mock" and os.environ.get("AIR_QUALITY_REQUIRE_BROKER") == "1":
            pytest.fail(f"AIR_QUALITY_REQUIRE_BROKER=1, but {broker.description}")
        if broker.kind == "mock":
            pytest.skip(broker.description)
        yield broker
