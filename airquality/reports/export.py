"""Make one file of a report that can be sent: page, Evidently's plots and their code, nothing fetched from anywhere."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from airquality.ground.errors import AirQualityError, UsageError
from airquality.ground.files import write_atomically
from airquality.reports import pages, paths
from airquality.reports.evidence_page import joined
from airquality.reports.folder import folder_name
from airquality.reports.heads import LAYOUT
from airquality.reports.lock import OWN_FOLDER

_EXAMPLES = """\
examples:
  python -m airquality report export reports/daily/daily_20050213_020000.html
  python -m airquality report export reports/weekly/weekly_20050219_020000.html --out /tmp/week.html
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 failure, 2 usage."""
    args = _parser().parse_args(argv)
    try:
        out = export(args.file, args.out)
    except (AirQualityError, OSError) as error:
        print(f"report export: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    print(f"{out} ({out.stat().st_size / 1e6:.1f} MB) needs no other file")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airquality report", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("export", help="make one file of a report, to send it", description=__doc__)
    command.add_argument("file", type=Path, metavar="FILE", help="the page of a report in a reports folder")
    command.add_argument("--out", type=Path, help="the file to write (default: its name and its station, in this folder)")
    return parser


def export(page: Path, out: Path | None = None) -> Path:
    """Write a report as one self-contained file and return its path.

    Raises:
        UsageError: ``page`` is no report of this release in a reports folder.
        OSError: a file cannot be read or written.
    """
    page = page.resolve()
    reports_dir = next((parent for parent in page.parents if (parent / OWN_FOLDER).is_dir()), None)
    try:
        document = json.loads(page.with_suffix(".json").read_bytes())
        if reports_dir is None or document["layout"] != LAYOUT:
            raise ValueError("another release wrote it")
        evidence = _evidence(reports_dir, page) if document["has_evidence"] else None
        text = pages.report(document, None, evidence)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{page} is no page of a report in its folder ({error}): name a daily_*.html in it") from error
    target = out or Path(f"{page.stem}_{folder_name(document['station_id'])}.html")
    write_atomically(target, text.encode())
    return target


def _evidence(reports_dir: Path, page: Path) -> str:
    place = reports_dir / paths.evidence_page(page.relative_to(reports_dir).as_posix())
    return joined(place.read_text(), lambda way: (place.parent / way).read_text())


if __name__ == "__main__":
    sys.exit(main())
