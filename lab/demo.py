"""Run the whole system once, without containers: ``make run``.

Starts a broker (unless ``KAFKA_BOOTSTRAP_SERVERS`` names one), makes the data and the reference, seeds a model registry,
serves the model, replays the test period and consumes it, each by the program a user would type. Then reads back what was
committed, with nothing but a reader, and says where to look. Everything it starts ends with it.

Its registry and logs go to a folder of its own under ``RUN_DIR``, so that it always shows the model of this checkout and
never touches another registry. Only that folder, and reports that are exactly as an earlier run left them, are removed.
"""

from __future__ import annotations

import argparse
import sys
import time

from airquality.ground import command
from lab.faultlab import spec
from lab.interruption import Interruption

_EXAMPLES = """\
examples:
  make run                                              the usual way to start it
  KAFKA_BOOTSTRAP_SERVERS=localhost:9092 make run       on a broker that runs already
  AIR_QUALITY_BROKER=mock make run                      without Java: real or mock forces a kind of broker
  AIR_QUALITY_DATA_SOURCE=simulated make run            uci or simulated forces the data
  REPORTS_DIR=/tmp/reports make run                     reports somewhere else
  make run FAULT=gain:S1:1.3:2005-02-20                 a faulty station beside a clean one, and what is noticed
  make demo-fault                                       a frozen sensor and a slow gain beside a clean station

exit status: 0 done, 1 a part failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM, 129 its terminal was closed,
141 its output was closed (| head)
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = _parser().parse_args(argv)
    return command.run("make run", lambda: _clean() if args.clean else _run(args))


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("python -m lab.demo", __doc__ or "", _EXAMPLES)
    parser.add_argument(
        "--fault",
        metavar="SPEC",
        action="append",
        default=[],
        help=f"beside a clean station, one with {spec.HELP}; repeatable",
    )
    parser.add_argument("--keep", action="store_true", help="keep the records of the broker it starts, to look into them")
    parser.add_argument("--clean", action="store_true", help="remove what earlier runs left, and nothing else")
    return parser


def _run(args: argparse.Namespace) -> None:
    started = time.monotonic()
    Interruption()
    try:
        _run_parts(args, started)
    except KeyboardInterrupt as interrupt:
        interrupt.args = (f"{interrupt}; everything this run started has been stopped",)
        raise


def _run_parts(args: argparse.Namespace, started: float) -> None:
    from airquality.ground.settings import read_settings
    from lab import faulty, parts  # Kafka and the rest take a third of a second, which no --help should

    settings = read_settings()
    faults = [spec.parse(text) for text in args.fault]
    faulty.require_within(faults, settings)
    parts.run(settings, faults, keep=args.keep, started=started)
    if not faults:
        print("see a fault noticed:  make demo-fault, or one of your own:  make run FAULT=gain:S1:1.3:2005-02-20")


def _clean() -> None:
    from airquality.ground.settings import read_settings
    from lab import parts

    parts.clean(read_settings())


if __name__ == "__main__":
    sys.exit(main())
