"""The tools an operator types: ``python -m airquality TOOL ...``. Each is imported only when it is asked for."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import NamedTuple

from airquality.ground import command


class Tool(NamedTuple):
    """A tool: the module whose ``main(argv)`` runs it, and what it does in one line."""

    module: str
    summary: str


TOOLS = {
    "alarms": Tool("airquality.stream.alarms_command", "acknowledge, reset or silence alarms; list the open ones"),
    "broker": Tool("lab.embedded_kafka", "start a single-node Apache Kafka on this machine"),
    "dlq": Tool("airquality.stream.dlq", "dead letters: list, show, export, and send again what a fix has cured"),
    "check": Tool("airquality.check", "judge files of readings with the detectors, without Kafka or a service"),
    "events": Tool("airquality.stream.events_command", "follow alarms and judged windows; list the open alarms"),
    "lag": Tool("airquality.stream.lag", "expose how far the consumers are behind, as the broker knows it, to Prometheus"),
    "repartition": Tool("airquality.stream.repartition", "move the stations' state after partitions were added"),
    "replay": Tool("airquality.replay.command", "rebuild past predictions to the bit, and explain them"),
    "report": Tool("airquality.reports.export", "make one file of a report, to send it"),
    "topics": Tool("airquality.stream.topics_command", "create the topics where they are missing, or check them"),
    "registry": Tool("airquality.model.registry_command", "seed the model registry; list, promote and roll back versions"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one tool; 0 done, 1 failure, 2 usage."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if arguments == ["--version"]:
        print(command.version())
        return 0
    name, *rest = arguments
    tool = installed().get(name)
    if tool is None:
        print(f"python -m airquality: there is no tool {name!r}\n\n{usage()}", file=sys.stderr)
        return 2
    return command.run(f"airquality {name}", lambda: int(importlib.import_module(tool.module).main(rest)))


def installed() -> dict[str, Tool]:
    """Return the tools whose code is here: images hold only what runs in them."""
    return {name: tool for name, tool in TOOLS.items() if _is_here(tool.module)}


def _is_here(module: str) -> bool:
    package = module.partition(".")[0]
    return importlib.util.find_spec(package) is not None and importlib.util.find_spec(module) is not None


def usage() -> str:
    """Return the list of the tools that are here."""
    lines = (f"  {name:<10} {tool.summary}" for name, tool in installed().items())
    return "\n".join(["usage: python -m airquality TOOL [--help] ...", "", "tools:", *lines])


if __name__ == "__main__":
    sys.exit(main())
