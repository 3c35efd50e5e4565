"""What a row and a station leave behind and cost: bytes on a real broker's disk, CPU, memory, restart; see ``--help``.

Every figure is of programs as they are typed, in processes of their own, on a broker of their own. ``benchmarks.sizing``
makes the table of ``docs/scaling.md`` of them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from airquality.data import dataset
from airquality.ground import command
from airquality.ground.errors import AirQualityError
from benchmarks.station_cost import index_page, metrics_page, report_cost, station_cost
from lab.child import Child
from lab.proof.rows import die, stop
from lab.proof.site import ROLES, Ground, Site, prepared
from lab.proof.topics import Sent
from lab.proof.traffic import Source, interleaved, stations
from lab.waiting import Failed

WARMUP_HOURS = 168
#: Past the warm-up, and not yet a day of predictions: no report shares the cores.
QUIET_HOURS = 20
#: What Kafka itself writes of offsets and transactions.
KAFKAS_OWN = ("__consumer_offsets", "__transaction_state")
FIGURES = Path(__file__).resolve().parent / "footprint.json"

Figures = dict[str, float]


@dataclass(frozen=True)
class Usage:
    """What a process has used: CPU seconds, and resident memory in bytes at its peak."""

    cpu_seconds: float
    peak_bytes: int

    @classmethod
    def of(cls, process: int) -> Usage:
        """Read that of a process id from /proc."""
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(") ", 1)[1].split()
        status = Path(f"/proc/{process}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
        return cls((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), 1024 * peak)


@dataclass(frozen=True)
class Lab:
    """A broker with the data that are sent to it."""

    ground: Ground
    source: Source

    def on_disk(self, topic: str) -> int:
        """Return the bytes of a topic's segments on the broker's disk, without indexes."""
        logs = (self.ground.directory / "kafka").glob(f"**/{topic}-[0-9]*/*.log")
        return sum(path.stat().st_size for path in logs)

    def written(self, site: Site) -> dict[str, int]:
        """Return the bytes of each of a site's topics and of Kafka's own."""
        found = {role: self.on_disk(site.topic(role)) for role in ROLES}
        return found | {topic: self.on_disk(topic) for topic in KAFKAS_OWN}

    def send(self, site: Site, n_stations: int, n_rows: int, start: int = 0) -> int:
        """Send the next hours of so many stations."""
        return site.cluster.send(site.topic("raw"), interleaved(self.source, stations(n_stations), n_rows, start))


# --- bytes


def bytes_a_row(lab: Lab) -> Figures:
    """Send a station's rows in one go, then more as a live station does: each in a batch and a transaction of its own."""
    n_rows, n_live = WARMUP_HOURS + QUIET_HOURS // 2, QUIET_HOURS // 2
    with lab.ground.site("bytes", TOPIC_PARTITIONS="1") as site:
        _produce(site, 0, n_rows)
        site.finish()
        before = lab.written(site)
        figures = {"catching up: raw, bytes a row": before["raw"] / n_rows}
        figures["catching up: pred, bytes a prediction"] = before["pred"] / (n_rows - WARMUP_HOURS)
        _produce(site, n_rows, n_rows + n_live, "--rate", "60")
        site.finish(MAX_POLL_RECORDS="1", SNAPSHOT_SECONDS="0.001")
        after = lab.written(site)
        return figures | {f"live: {name}, bytes a row": (after[name] - before[name]) / n_live for name in after}


def _produce(site: Site, first: int, end: int, *arguments: str) -> None:
    """Send a part of the test period as a station's, with the system's own producer."""
    lines = (Path(site.environment["DATASET_DIR"]) / "test_data_raw.csv").read_text().splitlines()
    part = site.directory / "part.csv"
    part.write_text("\n".join([lines[0], *lines[1 + first : 1 + end], ""]))
    site.run("producer.py", "--csv", str(part), "--station-id", "one", *arguments)


# --- CPU and rebalance


def cpu_a_row(lab: Lab) -> Figures:
    """Predict rows of 50 stations in batches, each followed by a snapshot of every station in it."""
    n_stations = 50
    with lab.ground.site("cpu", TOPIC_PARTITIONS="3") as site:
        lab.send(site, n_stations, WARMUP_HOURS)
        consumer = site.consumer(SNAPSHOT_SECONDS="0.001")
        site.caught_up(seconds=300)
        before = Usage.of(consumer.pid)
        sent = lab.send(site, n_stations, QUIET_HOURS, WARMUP_HOURS)
        site.caught_up(seconds=300)
        after = Usage.of(consumer.pid)
        die(consumer)
        return {"consumer: us CPU a row in batches": 1e6 * (after.cpu_seconds - before.cpu_seconds) / sent}


def rebalance(lab: Lab) -> Figures:
    """Stop, then kill, one of two consumers while a row comes every 20 ms: how long the slowest row waits."""
    figures: Figures = {}
    endings: tuple[tuple[str, Callable[[Child], None]], ...] = (("stopped", stop), ("killed", die))
    for name, end in endings:
        with lab.ground.site(f"rebalance-{name}", TOPIC_PARTITIONS="6") as site:
            lab.send(site, 60, WARMUP_HOURS)
            consumers = [site.consumer() for _ in range(2)]
            site.caught_up(seconds=300)
            rows = interleaved(lab.source, stations(60), QUIET_HOURS, WARMUP_HOURS)
            site.cluster.send(site.topic("raw"), _paced(islice(rows, 200), 0.02))
            end(consumers[0])
            site.cluster.send(site.topic("raw"), _paced(rows, 0.02))
            site.caught_up(seconds=120)
            figures[f"rebalance: one of two {name}, s the slowest row waits"] = _slowest(site)
            die(consumers[1])
    return figures


def _paced(rows: Iterator[Sent], seconds: float) -> Iterator[Sent]:
    for row in rows:
        time.sleep(seconds)
        yield row


def _slowest(site: Site) -> float:
    """Return the longest time from a row's to its prediction's arrival at the broker, in seconds."""
    arrived = {(each.partition, each.offset): each.timestamp_ms for each in site.cluster.committed(site.topic("raw"))}
    waited = []
    for each in site.cluster.committed(site.topic("pred")):
        row = json.loads(each.value or b"{}")
        waited.append(each.timestamp_ms - arrived[row["source_partition"], row["source_offset"]])
    return max(waited) / 1000


#: What needs no broker.
ALONE: dict[str, Callable[[], Figures]] = {
    "station": station_cost,
    "reports": report_cost,
    "metrics": metrics_page,
    "index": index_page,
}
PARTS: dict[str, Callable[[Lab], Figures]] = {
    "bytes": bytes_a_row,
    "cpu": cpu_a_row,
    "rebalance": rebalance,
}


def measure(parts: list[str], out: Path) -> None:
    """Measure the parts that are named, and put each into ``out`` beside what it says of the others."""
    for part in set(parts) & set(ALONE):
        _keep(ALONE[part](), out)
    if set(parts) & set(PARTS):
        with tempfile.TemporaryDirectory(prefix="air-quality-footprint-") as directory, prepared(Path(directory)) as ground:
            lab = Lab(ground, Source(dataset.current(Path(ground.environment["DATASET_DIR"]))))
            for part in parts:
                if part in PARTS:
                    _keep(PARTS[part](lab), out)
    print(f"written to {out}")


def _keep(found: Figures, out: Path) -> None:
    figures: Figures = json.loads(out.read_text()) if out.exists() else {}
    for name, value in found.items():
        print(f"{name}: {value:,.1f}", flush=True)
    figures |= {name: float(f"{value:.4g}") for name, value in found.items()}
    out.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 failure, 2 usage."""
    every = [*ALONE, *PARTS]
    p = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=__doc__)
    p.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(every)} (default: all)")
    p.add_argument("--out", type=Path, default=FIGURES, metavar="FILE", help="where the figures are kept (%(default)s)")
    args = p.parse_args(argv)
    unknown = set(args.parts) - set(every)
    if unknown:
        p.error(f"there is no {', '.join(sorted(unknown))}")
    return command.run("benchmarks.footprint", lambda: run(args.parts or every, args.out))


def run(parts: list[str], out: Path) -> None:
    """Measure; raise an error of one sentence where a program that is measured fails."""
    try:
        measure(parts, out)
    except Failed as error:
        raise AirQualityError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
