"""Consume the raw topic: arguments, signals, exit code. What runs is ``airquality/stream/workers.py``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from airquality.ground import command, log
from airquality.ground.program import leave, stop_on_signals
from airquality.stream.limits import Limits

if TYPE_CHECKING:
    from airquality.ground.settings import Settings
    from airquality.stream.account import Counts

_DESCRIPTION = """\
Consume readings, predict each hour, publish the predictions, and make daily and weekly reports.

Every row of the raw topic becomes exactly one of: warm-up, prediction, duplicate, dead letter. Runs until stopped, or
until a limit below is reached. Settings are environment variables: KAFKA_BOOTSTRAP_SERVERS (localhost:9092), API_URL
(http://localhost:8000), CONSUMER_GROUP, CONSUMER_METRICS_PORT (8001), CONSUMER_METRICS_HOST
(this machine and Docker's bridge), REPORTS_DIR and more (airquality/ground/settings.py).
"""
_EXAMPLES = """\
examples:
  python consumer.py                          run until Ctrl-C
  python consumer.py --idle-exit-seconds 10   catch up, write the reports, exit
  CONSUMER_INSTANCE_ID=a python consumer.py   one of several that share the stations; restarts take over at once

A consumer refuses to go on where offset, snapshots, predictions and topics do not belong together, and says which loss that
would be. A bounded run, or one on a terminal, then exits 1; any other stays up without partitions
(air_quality_consumer_refused is 1), so that a restart policy makes no crash loop. See docs/decisions/delivery-and-state.md.

exit status: 0 done or stopped on request, 1 failure or refusal, 2 wrong usage
"""


def _parser() -> argparse.ArgumentParser:
    p = command.parser("consumer.py", _DESCRIPTION, _EXAMPLES)
    p.add_argument("--max-records", type=command.count, metavar="N", help="stop after N records")
    p.add_argument("--timeout-seconds", type=command.positive, metavar="S", help="stop after that time")
    p.add_argument(
        "--idle-exit-seconds", type=command.positive, metavar="S", help="stop once no record has come for that time"
    )
    p.add_argument(
        "--accept-loss",
        action="store_true",
        help="go on where rows or state are gone for good, which is refused otherwise; the rows lost are counted",
    )
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 failure, 2 usage."""
    args = _parser().parse_args(argv)
    return command.run("consumer.py", lambda: _consume(args))


def _consume(args: argparse.Namespace) -> None:
    limits = Limits(**{name: value for name, value in vars(args).items() if value is not None})
    stop_on_signals(lambda: setattr(limits, "stopped", True))
    from airquality.ground.settings import read_settings
    from airquality.reports.summary import SUMMARY_NAME
    from airquality.stream.console import accounted

    settings = read_settings()
    log.configure(settings.log_level, settings.log_format)
    counts = run(settings, limits)
    say = log.speaker("consumer", settings.log_format)
    summary = settings.reports_dir / SUMMARY_NAME
    where = f"summary in {summary}" if summary.is_file() else f"no summary, {summary} could not be written"
    say(f"{counts.rows_in} rows in = {accounted(counts)}; {where}")


def run(settings: Settings, limits: Limits) -> Counts:
    """Run workers, watched by the monitoring service, until a limit is reached.

    Raises:
        AirQualityError: a service was never there, or two parts of the system disagree.
    """
    from airquality.stream import workers  # Kafka, numpy and the rest take half a second, which no --help should
    from monitoring_service import MonitoringService

    return workers.run(settings, limits, MonitoringService.open)


if __name__ == "__main__":
    leave(main)
