"""How containers end: with which status, after how long, and with which last words."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

from lab.containers import reader
from lab.containers.stack import PROJECT, Stack, check

#: 143 is SIGTERM's: a JVM ends with it after its own shutdown hooks, and uvicorn hands it on after its clean-up. Grafana and
#: Kafka UI may be stand-ins. The consumer ends with 0: it has left its group and written its summary.
CLEAN = {name: {0, 143} for name in ("kafka", "kafka-2", "kafka-3", "kafka-ui", "zookeeper", "api", "mlflow", "grafana")}
#: The voters of the quorum, where there is one. The last of them cannot hand over what it leads, for want of a majority: it
#: asks for five minutes, and is killed when its grace is over. So Kafka wants it; what was acknowledged is on its disk.
VOTERS = {"kafka", "kafka-2", "kafka-3"}
KILLED = 137
GROUP = "air-quality-consumer"
SUMMARY_WORDS = "rows in ="


@dataclass(frozen=True)
class Ending:
    """The end of one container: ``seconds`` after its service was asked to stop."""

    service: str
    status: int
    seconds: float

    @property
    def clean(self) -> bool:
        """Whether the program ended itself instead of being killed."""
        return self.status in CLEAN.get(self.service, {0})


def stop_cleanly(stack: Stack, what: str, stop: Callable[[], object]) -> None:
    """Run ``stop``, and check that every container that it ends has ended cleanly and that a consumer said its summary."""
    with tempfile.TemporaryFile("w+") as log:
        follower = stack.follow_log("consumer", log)
        since = time.time()
        stop()
        ended = endings(since)
        if follower is not None:
            follower.wait(timeout=30)
        log.seek(0)
        last_words = log.read()
    shown = ", ".join(f"{ending.service} {ending.status} ({ending.seconds:.1f} s)" for ending in ended)
    check(ended and not killed(ended), f"{what} ends every container cleanly: {shown}")
    if follower is not None and any(ending.service == "consumer" for ending in ended):
        check(SUMMARY_WORDS in last_words, f"{what}: the consumer's last line accounts for its rows")


def killed(ended: list[Ending]) -> list[Ending]:
    """Return what did not end by itself, but for the last broker of a quorum that ended as a whole."""
    brokers = [ending for ending in ended if ending.service in VOTERS]
    whole = {broker.service for broker in brokers} == VOTERS
    excused = brokers[-1:] if whole and brokers[-1].status == KILLED else []
    return [ending for ending in ended if not ending.clean and ending not in excused]


def endings(since: float) -> list[Ending]:
    """Return how the project's containers ended since then (Unix time), in order."""
    command = ["docker", "events", f"--since={since:.3f}", f"--until={time.time():.3f}", "--format={{json .}}"]
    command += ["--filter=type=container", f"--filter=label=com.docker.compose.project={PROJECT}"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    asked: dict[str, float] = {}
    ended = []
    for event in map(json.loads, listed):
        service, when = event["Actor"]["Attributes"]["com.docker.compose.service"], event["timeNano"] / 1e9
        if event["Action"] == "kill":  # the signal that asks
            asked.setdefault(service, when)
        elif event["Action"] == "die":
            ended.append(Ending(service, int(event["Actor"]["Attributes"]["exitCode"]), when - asked.pop(service, when)))
    return ended


def left_the_group() -> None:
    """Check that a consumer that has just ended does not keep its partitions until its session times out."""
    members = reader.members(GROUP)
    check(members == 0, f"the stopped consumer has left its group at once ({members} members)")
