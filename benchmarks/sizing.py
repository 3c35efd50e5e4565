"""Make the tables of ``docs/scaling.md`` of measured figures: ``python -m benchmarks.sizing``; a test keeps them equal.

Everything is arithmetic on ``benchmarks/footprint.json`` (``python -m benchmarks.footprint``) and on the limits below, which
are choices. A live station sends one row an hour.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from airquality.metrics import NAMED_STATIONS
from airquality.reports.overview import FULL_STATIONS, LISTED_STATIONS
from benchmarks.footprint import FIGURES, KAFKAS_OWN

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scaling.md"
SIZES = (1, 1_000, 100_000, 10_000_000)

# --- what is chosen
REPLICAS = 3
#: What of a consumer's container (1.5 GB) stations may take.
CONSUMER_BYTES = 1.2e9
#: After a crash a consumer's stations are predicted again within a minute, of which the group takes ten seconds.
RESTART_SECONDS = 50.0
#: Of one core; the other half is for catching up and for reports.
BUSY = 0.5
#: Sustained, of one broker's disk.
BROKER_BYTES_A_SECOND, BROKER_BYTES = 30e6, 4e12
PARTITION_REPLICAS_A_BROKER = 4_000
#: One-row requests of one API process; a batch of the consumer is one request.
API_REQUESTS_A_SECOND = 1_000
#: All members of a group pause when one comes or goes. Not measured.
GROUP_MEMBERS = 50
REPORTS_BYTES, REPORTS_DAYS = 500e9, 30
DAY, HOURS_A_DAY = 86_400, 24
KEPT_DAYS = {"raw": 90, "pred": 365, "events": 365}
N_TOPICS = 5

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Station:
    """What one live station costs."""

    written_bytes_a_day: float
    state_bytes_a_day: float
    held_bytes: float
    memory_bytes: float
    restart_seconds: float
    cpu_seconds_a_day: float
    report_cpu_seconds_a_day: float
    report_bytes_a_day: float

    @classmethod
    def of(cls, figures: Figures) -> Station:
        """Compute it from what was measured."""
        a_row = {name: figures[f"live: {name}, bytes a row"] for name in ("raw", "pred", "state", "events", *KAFKAS_OWN)}
        row_us = figures["consumer: us CPU a row in batches"]
        a_row["state"] = max(a_row["state"], figures["station: bytes of its snapshot"])  # older stations remember more
        return cls(
            written_bytes_a_day=HOURS_A_DAY * sum(a_row.values()),
            state_bytes_a_day=HOURS_A_DAY * a_row["state"],
            held_bytes=sum(HOURS_A_DAY * days * a_row[name] for name, days in KEPT_DAYS.items()) + 2 * a_row["state"],
            memory_bytes=figures["station: bytes of memory"],
            restart_seconds=figures["station: ms CPU to bring it back"] / 1e3,
            cpu_seconds_a_day=HOURS_A_DAY * (row_us / 1e6 + figures["station: ms CPU to take a snapshot"] / 1e3),
            report_cpu_seconds_a_day=figures["reports: s CPU a station and week"] / 7,
            report_bytes_a_day=figures["reports: bytes a station and week"] / 7,
        )


@dataclass(frozen=True)
class Limit:
    """What one consumer with the defaults cannot do beyond so many stations, and what to do then."""

    stations: float
    what: str
    then: str

    @property
    def by_design(self) -> bool:
        """Whether nothing breaks there."""
        return self.then.startswith("by design")


def limits(one: Station) -> list[Limit]:
    """Return what ends, in the order in which a growing fleet meets it."""
    found = [
        Limit(
            FULL_STATIONS + LISTED_STATIONS, "the index lists the worst stations only", "by design; each has its own pages"
        ),
        Limit(NAMED_STATIONS, "a consumer's metrics name no more stations", "by design; the others are `other` together"),
        Limit(
            REPORTS_BYTES / (REPORTS_DAYS * one.report_bytes_a_day),
            f"{REPORTS_DAYS} days of reports fill {REPORTS_BYTES / 1e9:.0f} GB",
            "`REPORTS_KEEP_DAYS`, or a folder for each consumer",
        ),
        Limit(
            BUSY * DAY / one.report_cpu_seconds_a_day,
            "reports take half a core",
            "more consumers, each has a report process",
        ),
        Limit(
            CONSUMER_BYTES / one.memory_bytes, f"a consumer's stations fill {CONSUMER_BYTES / 1e9:.1f} GB", "more consumers"
        ),
        Limit(RESTART_SECONDS / one.restart_seconds, f"a restart takes {RESTART_SECONDS:.0f} s", "more consumers"),
        Limit(BUSY * DAY / one.cpu_seconds_a_day, "live rows take half a core of a consumer", "more consumers"),
        Limit(
            BROKER_BYTES_A_SECOND * DAY / one.written_bytes_a_day,
            f"a broker writes {BROKER_BYTES_A_SECOND / 1e6:.0f} MB/s, most of it snapshots",
            "`SNAPSHOT_SECONDS` in hours, more brokers",
        ),
        Limit(
            BROKER_BYTES / one.held_bytes, f"a broker holds {BROKER_BYTES / 1e12:.0f} TB", "more brokers, shorter retention"
        ),
    ]
    group = GROUP_MEMBERS / _consumers_a_station(one)
    found.append(
        Limit(group, f"a group has {GROUP_MEMBERS} members", "several systems, each with a `TOPIC_PREFIX` of its own")
    )
    return sorted(found, key=lambda limit: limit.stations)


def _consumers_a_station(one: Station) -> float:
    return max(
        one.memory_bytes / CONSUMER_BYTES,
        one.restart_seconds / RESTART_SECONDS,
        one.cpu_seconds_a_day / (BUSY * DAY),
        one.report_cpu_seconds_a_day / (BUSY * DAY),
    )


@dataclass(frozen=True)
class Plan:
    """What so many stations need."""

    stations: int
    consumers: int
    partitions: int
    brokers: int
    apis: int

    @classmethod
    def of(cls, stations: int, one: Station) -> Plan:
        """Compute it; a single station gets what the compose file starts, everything else can lose one of each."""
        if stations == 1:
            return cls(1, 1, 3, 1, 1)
        consumers = max(2, math.ceil(stations * _consumers_a_station(one)))
        partitions = max(6, 2 * consumers)
        load = (
            REPLICAS * stations * max(one.written_bytes_a_day / (BROKER_BYTES_A_SECOND * DAY), one.held_bytes / BROKER_BYTES)
        )
        replicas = REPLICAS * N_TOPICS * partitions / PARTITION_REPLICAS_A_BROKER
        apis = max(2, math.ceil(stations / 3600 / (BUSY * API_REQUESTS_A_SECOND)))
        return cls(stations, consumers, partitions, max(3, math.ceil(max(load, replicas))), apis)

    def breaks_first(self, one: Station) -> str:
        """Return what a fleet that grew to this size from the size before meets first, with the defaults."""
        below = max((size for size in SIZES if size < self.stations), default=0)
        met = [limit for limit in limits(one) if not limit.by_design and below < limit.stations <= self.stations]
        if not met:
            return "nothing" if self.brokers > 1 else "nothing; one disk holds the only copy"
        return f"at {_rounded(met[0].stations)}: {met[0].what}"


def sizing_table(figures: Figures) -> str:
    """Return the sizing table."""
    one = Station.of(figures)
    lines = [
        "| stations | rows/s | brokers | partitions | consumers | API replicas | written a day, one replica | of it state "
        "| held, one replica | reports a day | breaks first |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for size in SIZES:
        plan = Plan.of(size, one)
        cells = [
            f"{size:,}",
            f"{size / 3600:,.2g}" if size < 36_000 else f"{size / 3600:,.0f}",
            *(f"{count:,}" for count in (plan.brokers, plan.partitions, plan.consumers, plan.apis)),
            _bytes(size * one.written_bytes_a_day),
            f"{one.state_bytes_a_day / one.written_bytes_a_day:.0%}".replace("%", " %"),
            _bytes(size * one.held_bytes),
            f"{_bytes(size * one.report_bytes_a_day)}, {_hours(size * one.report_cpu_seconds_a_day)} CPU",
            plan.breaks_first(one),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def limits_table(figures: Figures) -> str:
    """Return the limits of one consumer with the defaults, first met first."""
    rows = [f"| {_rounded(limit.stations)} | {limit.what} | {limit.then} |" for limit in limits(Station.of(figures))]
    return "\n".join(["| stations | what ends there | then |", "|---|---|---|", *rows])


def figures_table(figures: Figures) -> str:
    """Return everything that was measured."""
    rows = [
        f"| {name} | {value:,.4g} |" if value < 1000 else f"| {name} | {value:,.0f} |" for name, value in figures.items()
    ]
    return "\n".join(["| measured | figure |", "|---|---|", *rows])


TABLES = {"sizing": sizing_table, "limits": limits_table, "figures": figures_table}


def filled(page: str, figures: Figures) -> str:
    """Return the page with its tables made anew, each between ``<!-- NAME -->`` and ``<!-- /NAME -->``."""
    for name, table in TABLES.items():
        before, opened, rest = page.partition(f"<!-- {name} -->\n")
        _, closed, after = rest.partition(f"\n<!-- /{name} -->")
        if not opened or not closed:
            raise ValueError(f"the page has no place for the table {name}: <!-- {name} --> and <!-- /{name} -->")
        page = before + opened + table(figures) + closed + after
    return page


def _rounded(number: float) -> str:
    digits = 2 - len(str(int(number)))
    return f"{round(number, min(digits, 0)):,.0f}" if number >= 1000 else f"{number:.0f}"


def _bytes(number: float) -> str:
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number:.0f} B"


def _hours(seconds: float) -> str:
    return (
        f"{seconds / 3600:,.0f} h"
        if seconds >= 36_000
        else f"{seconds / 60:,.0f} min"
        if seconds >= 600
        else f"{seconds:.0f} s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables into the page; 0 done, 2 usage."""
    argparse.ArgumentParser(prog="python -m benchmarks.sizing", description=__doc__).parse_args(arguments)
    PAGE.write_text(filled(PAGE.read_text(), json.loads(FIGURES.read_text())))
    print(f"written to {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
