"""An hour of steady traffic: memory, descriptors, threads and latency stay where they are."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lab.proof.rows import Outcome, Proof, row, stop
from lab.proof.site import Process, Site
from lab.proof.topics import Found, Sent
from lab.proof.traffic import stations

SECONDS = {1: 180, 5: 3_600}
_RATE = 200
#: Rows a second that are predicted; a report is a second of work for every 24 of a station, so the others are repeats.
_PREDICTED, _DEAD = 10, 2
_STATIONS = stations(40)
_SAMPLE_SECONDS = 5.0
#: The beginning is left out: caches fill, the report process is started.
_SETTLING = 1 / 3
MAX_SLOPE_MB_PER_HOUR = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process held at a moment, ``at`` in seconds."""

    at: float
    megabytes: float
    descriptors: int
    threads: int


@row("soak", alone=True, on_demand=True)
def steady_traffic(proof: Proof) -> Outcome:
    """200 rows a second for an hour: memory, descriptors, threads and latency are flat."""
    seconds = SECONDS[proof.scale]
    with proof.ground.site("soak") as site:
        site.cluster.send(site.topic("raw"), _warm_up(proof))
        consumer = site.consumer()
        site.caught_up(seconds=300)
        began = time.monotonic()
        samples: list[Sample] = []
        site.cluster.send(site.topic("raw"), _paced(proof, seconds, consumer, samples))
        rate = _RATE * seconds / (time.monotonic() - began)
        site.caught_up(seconds=300)
        stop(consumer)
        site.finish(idle_seconds=14)
        faults, figures = _flat(samples[int(len(samples) * _SETTLING) :])
        if proof.scale == 1:
            faults = []  # caches still fill: minutes say nothing of an hour
        return Outcome(
            {"s": seconds, "rows a second": round(rate), **figures, **_latency(site)}, faults + proof.verdict(site)
        )


def _paced(proof: Proof, seconds: int, consumer: Process, samples: list[Sample]) -> Iterator[Sent]:
    """Yield what is sent, a second's worth at a time, and look at the consumer now and then."""
    began = time.monotonic()
    for second, batch in enumerate(_seconds(proof, seconds)):
        time.sleep(max(0.0, began + second - time.monotonic()))
        yield from batch
        if second % _SAMPLE_SECONDS == 0:
            samples.append(_sample(consumer, second))


def _warm_up(proof: Proof) -> Iterator[Sent]:
    for index in range(168):
        for number, station in enumerate(_STATIONS):
            yield _row(proof, station, number, index)


def _row(proof: Proof, station: str, number: int, index: int, expect: str = "row") -> Sent:
    return proof.source.row(station, index + 97 * number, shift=-97 * number, expect=expect)


def _seconds(proof: Proof, seconds: int) -> Iterator[list[Sent]]:
    """Yield what is sent in each second: some new hours, some records that are none, and repeats of the newest hours."""
    sent = 0
    for _ in range(seconds):
        batch = []
        for _ in range(_PREDICTED):
            number = sent % len(_STATIONS)
            index = 168 + sent // len(_STATIONS)
            batch.append(_row(proof, _STATIONS[number], number, index))
            sent += 1
        repeats = _RATE - _PREDICTED - _DEAD
        batch += [_row(proof, _STATIONS[number], number, index, "duplicate") for _ in range(repeats)]
        batch += [Sent(_STATIONS[0].encode(), b"{", "malformed")] * _DEAD
        yield batch


def _sample(process: Process, at: float) -> Sample:
    folder = Path(f"/proc/{process.pid}")
    fields = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
    megabytes = int(fields["VmRSS"].split()[0]) / 1024
    return Sample(at, megabytes, sum(1 for _ in (folder / "fd").iterdir()), int(fields["Threads"]))


def _flat(samples: Sequence[Sample]) -> tuple[list[str], dict[str, object]]:
    """Return what is not flat, and the figures."""
    at = np.array([sample.at for sample in samples])
    slope = float(np.polyfit(at, [sample.megabytes for sample in samples], 1)[0]) * 3_600
    faults = [f"memory grows by {slope:.1f} MB an hour"] if slope > MAX_SLOPE_MB_PER_HOUR else []
    for name in ("descriptors", "threads"):
        counts = [getattr(sample, name) for sample in samples]
        half = len(counts) // 2
        if max(counts[half:]) > max(counts[:half]) + 2:
            faults.append(f"{name} grow: up to {max(counts[:half])}, then {max(counts[half:])}")
    figures: dict[str, object] = {
        "MB at the end": round(samples[-1].megabytes),
        "MB an hour": round(slope, 2),
        "descriptors": samples[-1].descriptors,
        "threads": samples[-1].threads,
    }
    return faults, figures


def _latency(site: Site) -> Mapping[str, object]:
    """Return milliseconds from a raw row's append to its prediction's, in the first and the last quarter of the hour."""
    raw = {(found.partition, found.offset): found.timestamp_ms for found in site.cluster.committed(site.topic("raw"))}
    made = [(found.timestamp_ms, found) for found in site.cluster.committed(site.topic("pred"))]
    waits = [at - raw[_source(found)] for at, found in sorted(made, key=lambda pair: pair[0]) if at > min(raw.values())]
    quarter = max(1, len(waits) // 4)
    return {
        f"ms {name} quarter (p50, p99)": "/".join(f"{np.quantile(part, level):.0f}" for level in (0.5, 0.99))
        for name, part in (("first", waits[:quarter]), ("last", waits[-quarter:]))
    }


def _source(found: Found) -> tuple[int, int]:
    body = json.loads(found.value or b"")
    return body["source_partition"], body["source_offset"]
