"""Three brokers, of which one is killed while rows come, and with it one of two consumers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack

from lab.containers import monitoring, reader
from lab.containers.endings import VOTERS, stop_cleanly
from lab.containers.reader import PREDICTIONS, RAW
from lab.containers.scaled import STATIONS, every_row_once, producer
from lab.containers.stack import Stack, check, wait_for
from lab.waiting import Failed

FILES = ("docker-compose.yml", "docker-compose.three-brokers.yml")
SERVERS = "localhost:9092,localhost:9094,localhost:9095"
#: The one that is first in every list of servers.
LOST = "kafka"
KAFKAS_OWN = ("__consumer_offsets", "__transaction_state")
#: Of each station: slow enough that the larger part of the rows comes after the loss.
ROWS_A_SECOND = 15
#: Fencing the lost broker takes 9 s, and no alert may fire: `KafkaGone` does after half a minute of silence.
GOES_ON_WITHIN_SECONDS = 45
#: Producers that run apart by six hours of event time look like silence; that is of the data, and true.
EXPECTED = {"MonitoringAlarm"}


def drive_brokers(stack: Stack) -> None:
    """Let six stations stream through two consumers, kill one of them and a broker on the way, and count."""
    stack.up(within_seconds=300)
    stack.compose("--profile=stream", "up", "-d", "--scale=consumer=2", "consumer", "consumer-port")
    wait_for("two members", lambda: reader.members("air-quality-consumer", SERVERS) == 2, 120)
    topics_are_as_needed(stack)
    wait_for("no alert of the start is left", lambda: not monitoring.firing(), 60)
    with ExitStack() as producers:
        sending = [producers.enter_context(producer(stack, station, SERVERS, ROWS_A_SECOND)) for station in STATIONS]
        wait_for("the first predictions", lambda: reader.count(PREDICTIONS, SERVERS) > 200, 180)
        replicated_on(3)
        before, lost_at = reader.count(PREDICTIONS, SERVERS), time.monotonic()
        for service in (LOST, "consumer"):
            subprocess.run(["docker", "kill", stack.containers(service)[0]], check=True, capture_output=True)
        wait_for("predictions without it", lambda: reader.count(PREDICTIONS, SERVERS) > before, GOES_ON_WITHIN_SECONDS)
        waited = time.monotonic() - lost_at
        check(True, f"{LOST} and a consumer killed after {before} predictions: more after {waited:.0f} s, without them")
    check(all(each.returncode == 0 for each in sending), f"{len(sending)} producers sent their files")
    every_row_once(stack, SERVERS)
    replicated_on(2)
    loud = monitoring.fired(time.monotonic() - lost_at) - EXPECTED
    check(not loud, f"no alert fires: two brokers, a consumer and the API are there {loud or ''}")
    stack.compose("start", LOST)
    replicated_on(3)
    committed = reader.count(PREDICTIONS, SERVERS)
    stop_cleanly(stack, "stop", lambda: stack.compose("--profile=stream", "stop"))
    stack.compose("start", *sorted(VOTERS))
    wait_for("three brokers again", lambda: all(stack.states()[broker] == "healthy" for broker in VOTERS), 300)
    replicated_on(3)
    check(reader.count(PREDICTIONS, SERVERS) == committed, f"all stopped, brokers started: {committed} predictions still")


def topics_are_as_needed(stack: Stack) -> None:
    """Check with the system's own tool that an acknowledged record is on two of three brokers."""
    done = subprocess.run(
        [sys.executable, "-m", "airquality", "topics", "--check"],
        cwd=stack.tree,
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": SERVERS},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        raise Failed(f"topics --check exits {done.returncode}: {done.stdout[-1500:]}")
    check(True, f"topics --check: {done.stdout.strip().splitlines()[-1]}")


def replicated_on(brokers: int) -> None:
    """Wait until every partition, Kafka's own too, has as many replicas in sync as brokers run."""
    topics = (RAW, PREDICTIONS, *KAFKAS_OWN)
    expected = dict.fromkeys(topics, brokers)
    wait_for(f"{brokers} replicas in sync", lambda: reader.in_sync(topics, SERVERS) == expected, 120)
    check(True, f"{brokers} replicas in sync of {', '.join(topics)}")
