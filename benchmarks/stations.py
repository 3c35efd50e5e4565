"""Fleets of 1 to 10,000 stations, each sending one row an hour: time and CPU a row beside the bare loop, and memory."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from benchmarks.figures import Figure, ratio
from benchmarks.replay import bare, product, rates
from benchmarks.sections import Bench, Contender, Outcome, section
from benchmarks.topics import Topics

#: Stations, and how many hours of all of them a round takes.
_FLEETS = {1: 4_000, 4: 2_000, 100: 80, 1_000: 8, 10_000: 2}
_QUICK = {4: 300, 1_000: 2, 10_000: 1}
_JUDGED, _SMALL, _LARGE = 1_000, 4, 10_000


@section("stations", place=3, minutes=8, quick=False)
def stations(bench: Bench) -> Outcome:
    """Fleets of 1 to 10,000 stations, a row of each at a time: beside the bare loop, and what a station takes of memory."""
    topics = Topics(bench.ground)
    contenders: dict[str, Contender] = {}
    for n_stations, n_hours in (_QUICK if bench.quick else _FLEETS).items():
        raw = topics.raw(n_stations, n_hours)
        n_rows = n_stations * n_hours
        contenders[_named("bare", n_stations)] = partial(_bare, bench, topics, raw, n_rows)
        contenders[_named("product", n_stations)] = partial(_product, bench, topics, raw, n_rows, n_stations)
    return Outcome(_figures(bench.interleave(contenders)), remark="memory: without the processes that make reports")


def _named(what: str, n_stations: int) -> str:
    return f"{what}, {n_stations} station{'s' if n_stations > 1 else ''}"


def _bare(bench: Bench, topics: Topics, raw: str, n_rows: int) -> Mapping[str, float]:
    return rates(bare(bench, topics.around(raw), n_rows), n_rows)


def _product(bench: Bench, topics: Topics, raw: str, n_rows: int, n_stations: int) -> Mapping[str, float]:
    found = product(bench, topics.around(raw, 1, n_stations), n_rows, n_stations)
    return {**rates(found, n_rows), "MB": found["memory_mb"]}


def _figures(found: Mapping[str, Mapping[str, list[float]]]) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for name, measured in found.items():
        figures[f"{name}: rows a second"] = Figure("rows/s", tuple(measured["rows/s"]))
        figures[f"{name}: CPU a row"] = Figure("us", tuple(measured["CPU us"]))
        if "MB" in measured:
            figures[f"{name}: memory"] = Figure("MB", tuple(measured["MB"]))
    speed = [found[_named(name, _JUDGED)]["rows/s"] for name in ("bare", "product")]
    figures[f"{_JUDGED} stations / bare"] = ratio(*speed)
    small = found[_named("product", _SMALL)]["MB"]
    figures[f"memory of {_SMALL} stations"] = Figure("MB", tuple(small))
    if large := found.get(_named("product", _LARGE), {}).get("MB"):
        figures[f"memory of {_LARGE} stations"] = Figure("MB", tuple(large))
        more = [(a - b) * 1024 / (_LARGE - _SMALL) for a, b in zip(large, small, strict=True)]
        figures["memory a station"] = Figure("KB", tuple(more))
    return figures
