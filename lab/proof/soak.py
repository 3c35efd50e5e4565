"""An hour of steady traffic: memory, descriptors, threads and latency stay where they are."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from lab.child import Child
from lab.proof.rows import Outcome, Proof, row, stop
from lab.proof.site import Site
from lab.proof.topics import Found, Sent
from lab.proof.traffic import stations

SECONDS = {1: 180, 5: 3_600}
_RATE, _PROMISED_RATE = 205, 200
#: Rows a second that are predicted; a report is a second of work for every 24 of a station, so the others are repeats.
_PREDICTED, _DEAD = 6, 2
#: Few, so that each lives 3,600 hours in one: what a station learns and keeps (levels of 17 days, checksums of three weeks)
#: is full before memory is judged.
_STATIONS = stations(6)
_SAMPLE_SECONDS = 5.0
#: The beginning is left out: caches and what is kept of a station fill, the report process is started.
_SETTLING = 0.4
MAX_SLOPE_MB_PER_HOUR = 1.0
#: Latency grows where the quiet minutes of the last third are slower than those of the first by this share.
MAX_LATENCY_GROWTH = 0.25


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process held at a moment, ``at`` in seconds."""

    at: float
    megabytes: float
    descriptors: int
    threads: int
    report_megabytes: float  # of the processes it started


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
        faults, figures = flat(samples[int(len(samples) * _SETTLING) :])
        slower, waits = _latency(site, int(seconds * _SETTLING))
        if proof.scale == 1:
            faults, slower = [], []  # caches still fill: minutes say nothing of an hour
        if rate < _PROMISED_RATE:
            faults.append(f"only {rate:.0f} rows a second were sent")
        return Outcome(
            {"s": seconds, "rows a second": round(rate), **figures, **waits}, faults + slower + proof.verdict(site)
        )


def _paced(proof: Proof, seconds: int, consumer: Child, samples: list[Sample]) -> Iterator[Sent]:
    """Yield what is sent, a second's worth at a time, and look at the consumer now and then."""
    began = time.monotonic()
    for second, batch in enumerate(_seconds(proof, seconds)):
        time.sleep(max(0.0, began + second - time.monotonic()))
        yield from batch
        if second % _SAMPLE_SECONDS == 0:
            samples.append(_sample(consumer, second))
            if second % 300 == 0:
                print(f"soak: {samples[-1]}", flush=True)


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


def _sample(process: Child, at: float) -> Sample:
    folder = Path(f"/proc/{process.pid}")
    fields = _status(process.pid)
    started = [path.read_text().split() for path in (folder / "task").glob("*/children")]  # by each of its threads
    reports = sum(_megabytes(_status(int(child))) for children in started for child in children)
    descriptors = sum(1 for _ in (folder / "fd").iterdir())
    return Sample(at, _megabytes(fields), descriptors, int(fields["Threads"]), reports)


def _status(pid: int) -> dict[str, str]:
    """Return what the kernel says of a process, nothing if it has ended meanwhile."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _megabytes(fields: Mapping[str, str]) -> float:
    return int(fields.get("VmRSS", "0 kB").split()[0]) / 1024


def flat(samples: Sequence[Sample]) -> tuple[list[str], dict[str, object]]:
    """Return what is not flat, and the figures."""
    slope = _slope(samples, "megabytes")
    faults = [f"memory grows by {slope:.1f} MB an hour"] if slope > MAX_SLOPE_MB_PER_HOUR else []
    for name in ("descriptors", "threads"):
        counts = [getattr(sample, name) for sample in samples]
        half = len(counts) // 2
        first, second = counts[:half], counts[half:]
        if max(second) > max(first) + 2 or np.mean(second) > np.mean(first) + 1:
            faults.append(f"{name} grow: up to {max(first)}, then {max(second)}")
    last = samples[-1]
    figures: dict[str, object] = {
        "MB at the end": round(last.megabytes),
        "MB an hour": round(slope, 2),
        "descriptors": last.descriptors,
        "threads": last.threads,
        "MB in the report process": round(last.report_megabytes),
        "MB an hour there": round(_slope(samples, "report_megabytes"), 2),
    }
    return faults, figures


def _slope(samples: Sequence[Sample], name: str) -> float:
    """Return by how much a figure grows in an hour."""
    at = [sample.at for sample in samples]
    return float(np.polyfit(at, [getattr(sample, name) for sample in samples], 1)[0]) * 3_600


def _latency(site: Site, settling_seconds: int) -> tuple[list[str], Mapping[str, object]]:
    """Return whether latency grows, and its figures: milliseconds from a raw row's append to its prediction's."""
    raw = {(found.partition, found.offset): found.timestamp_ms for found in site.cluster.committed(site.topic("raw"))}
    made = sorted((found.timestamp_ms, raw[_source(found)]) for found in site.cluster.committed(site.topic("pred")))
    began = made[0][0] + settling_seconds * 1_000
    minutes: dict[int, list[int]] = {}
    for at, sent_at in made:
        if at >= began:
            minutes.setdefault((at - began) // 60_000, []).append(at - sent_at)
    waits = [minutes[minute] for minute in sorted(minutes)]
    third = max(1, len(waits) // 3)
    figures = {
        "ms in the first third (p50, p99)": _quantiles(list(chain(*waits[:third]))),
        "ms in the last third (p50, p99)": _quantiles(list(chain(*waits[-third:]))),
    }
    return grown([float(np.median(minute)) for minute in waits]), figures


def grown(medians: Sequence[float]) -> list[str]:
    """Return whether latency has grown from the first to the last third of the minutes, given each minute's median.

    The lower quartiles are compared: what else the machine does makes some minutes slow, while a consumer that grows
    slower makes all of them so.
    """
    third = max(1, len(medians) // 3)
    first, last = (float(np.quantile(part, 0.25)) for part in (medians[:third], medians[-third:]))
    slower = last > first * (1 + MAX_LATENCY_GROWTH) and last > first + 10
    return [f"latency grows in quiet minutes: {first:.0f} ms, then {last:.0f} ms"] if slower else []


def _quantiles(waits: Sequence[int]) -> str:
    return "/".join(f"{np.quantile(waits, level):.0f}" for level in (0.5, 0.99))


def _source(found: Found) -> tuple[int, int]:
    body = json.loads(found.value or b"")
    return body["source_partition"], body["source_offset"]
