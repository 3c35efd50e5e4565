"""Rebuild past predictions: ``python -m airquality replay``."""

from __future__ import annotations

import argparse
import sys

from airquality.ground import command

_DESCRIPTION = """\
Make past predictions once more from the raw rows Kafka still holds, with the model version that made them, and compare to
the bit. One hour is also explained. KAFKA_BOOTSTRAP_SERVERS and MLFLOW_TRACKING_URI say where topics and registry are.
"""
_EXAMPLES = """\
examples:
  python -m airquality replay --station uci-360 --hour 2005-03-01T08:00          one prediction, rebuilt and explained
  python -m airquality replay --station uci-360 --hour 2005-03-01T08:00 --json
  python -m airquality replay --station uci-360 --hour 2005-03-01T08:00 --page   also as a page in the reports folder
  python -m airquality replay --station uci-360                                  every prediction of a station
  python -m airquality replay --station uci-360 --from 2005-03-01T00:00 --to 2005-03-31T23:00 --version 2
                                                   a month, and the error version 2 would have had; --page: also as a page

exit status: 0 equal to the bit, 1 failure, 2 wrong usage, 3 not equal, or rows are gone
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 equal, 1 failure, 2 usage, 3 not equal or not to be rebuilt."""
    args = _parser().parse_args(argv)
    return command.run("replay", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    from airquality.replay import run  # Kafka, MLflow and the pages take three seconds, which no --help should

    return run.run(args)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("python -m airquality replay", _DESCRIPTION, _EXAMPLES, says_version=False)
    parser.add_argument("--station", required=True, metavar="ID", help="whose predictions")
    parser.add_argument("--hour", type=_hour, metavar="TIME", help="one hour, station-local, e.g. 2005-03-01T08:00")
    parser.add_argument("--from", type=_hour, dest="first", metavar="TIME", help="from this hour on")
    parser.add_argument("--to", type=_hour, dest="last", metavar="TIME", help="up to and including this hour")
    parser.add_argument("--version", dest="other", metavar="N", help="what this registered version would have said")
    parser.add_argument("--json", action="store_true", help="one JSON object a prediction")
    parser.add_argument("--page", action="store_true", help="also write a page in the reports folder (REPORTS_DIR)")
    return parser


def _hour(text: str) -> int:
    from airquality.records import hour_of_isoformat

    try:
        return hour_of_isoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no hour such as 2005-03-01T08:00: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
