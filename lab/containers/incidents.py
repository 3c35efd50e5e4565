"""What goes wrong on purpose while the stream runs, what must be seen of it within a minute, and that it passes."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial

from lab.containers import monitoring, reader
from lab.containers.endings import left_the_group, stop_cleanly
from lab.containers.reader import PREDICTIONS, RAW, WARMUP_HOURS
from lab.containers.stack import Stack, check, wait_for

API_AWAY_SECONDS = 60
RED_WITHIN_SECONDS = 60


def consumer_stops_and_goes_on(stack: Stack) -> None:
    """Stop and restart the consumer's container: it must end itself, not be killed."""
    stop_cleanly(stack, "stop consumer", lambda: stack.compose("stop", "consumer"))
    left_the_group()
    stack.compose("start", "consumer")
    wait_for("the consumer is healthy again", stack.all_healthy, 60)
    stop_cleanly(stack, "restart consumer", lambda: stack.compose("restart", "consumer"))
    wait_for("the consumer is healthy again", stack.all_healthy, 60)


def api_away(stack: Stack) -> None:
    """Stop the API for a minute while rows keep arriving."""
    stopped = time.monotonic()
    stack.compose("stop", "api")
    red_in_time(stack, stopped, "ApiDown", API="DOWN", Consumer="WAITING")
    held = reader.count(PREDICTIONS)
    consumer_says(stack, "prediction service")
    time.sleep(max(0.0, API_AWAY_SECONDS - (time.monotonic() - stopped)))
    check(
        reader.count(PREDICTIONS) == held, f"the API away for {API_AWAY_SECONDS} s: the consumer waits at {held} predictions"
    )
    check(reader.count(RAW) > held + WARMUP_HOURS, "rows arrive meanwhile")
    stack.compose("start", "api")


def kafka_away(stack: Stack) -> None:
    """Stop Kafka until the consumer's health check has noticed, and start it again."""
    stopped = time.monotonic()
    stack.compose("stop", "kafka")
    red_in_time(stack, stopped, "KafkaGone", Consumer="NO KAFKA")
    consumer_says(stack, "Kafka has not answered")
    stack.compose("start", "kafka")
    wait_for("all services are healthy again", stack.all_healthy, 240)


def consumer_killed(stack: Stack) -> None:
    """Kill the consumer's container while rows come, and start it again. The rows have come before: they are duplicates."""
    killed = time.monotonic()
    stack.compose("kill", "consumer")
    producer = [sys.executable, "producer.py", "--csv", "dataset/test_data_raw.csv", "--max-records", "20"]
    subprocess.run(producer, cwd=stack.tree, check=True, stdout=subprocess.DEVNULL)
    red_in_time(stack, killed, "ConsumerGone", Consumer="DOWN")
    stack.compose("start", "consumer")
    wait_for("all services are healthy again", stack.all_healthy, 60)


def consumer_says(stack: Stack, words: str) -> None:
    """Wait until the consumer's container is unhealthy and says why; nothing may restart it for that."""
    wait_for("the consumer is unhealthy", lambda: stack.states()["consumer"] == "unhealthy", 60)
    health = stack.health_of("consumer")
    check(words in health, f"the consumer's health check says so: {health.strip()}")
    check(stack.restarts("consumer") == 0, "the consumer waits without being restarted")


def red_in_time(stack: Stack, since: float, alert: str, **panels: str) -> None:
    """Check that within a minute each panel shows its word and the alert fires."""
    for title, word in panels.items():
        shows = partial(panel_shows, stack, title, word)
        wait_for(f"panel {title} shows {word}", shows, RED_WITHIN_SECONDS - (time.monotonic() - since))
        check(True, f"panel {title} shows {word} after {time.monotonic() - since:.0f} s, at most {RED_WITHIN_SECONDS}")
    left = RED_WITHIN_SECONDS - (time.monotonic() - since)
    wait_for(f"alert {alert}", lambda: alert in monitoring.firing(), left)
    check(True, f"alert {alert} fires after {time.monotonic() - since:.0f} s, at most {RED_WITHIN_SECONDS}")


def panel_shows(stack: Stack, title: str, word: str) -> bool:
    """Return whether a panel of states shows the word now."""
    return monitoring.shown(stack.tree, title) == word
