"""What a batch of the consumer is worth: from one record at a time to 512, beside the bare loop of the same batches."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from benchmarks.figures import Figure, ratio
from benchmarks.replay import bare, product, rates
from benchmarks.sections import Bench, Contender, Outcome, section
from benchmarks.topics import Topics

#: Records a poll, and hours of the four stations.
_BATCHES = {1: 50, 8: 250, 64: 1_500, 512: 2_500}
_STATIONS = 4


@section("batches", place=6, minutes=5, quick=False)
def batches(bench: Bench) -> Outcome:
    """MAX_POLL_RECORDS from 1 to 512, four stations: rows a second and CPU a row, beside the bare loop."""
    topics = Topics(bench.ground)
    contenders: dict[str, Contender] = {}
    for size, n_hours in _BATCHES.items():
        raw, n_rows = topics.raw(_STATIONS, n_hours), n_hours * _STATIONS
        contenders[f"bare, batches of {size}"] = partial(_bare, bench, topics, raw, n_rows, size)
        contenders[f"product, batches of {size}"] = partial(_product, bench, topics, raw, n_rows, size)
    found = bench.interleave(contenders)
    figures = {f"{name}: rows a second": Figure("rows/s", tuple(m["rows/s"])) for name, m in found.items()}
    figures |= {f"{name}: CPU a row": Figure("us", tuple(m["CPU us"])) for name, m in found.items()}
    for size in _BATCHES:
        ours, theirs = (found[f"{name}, batches of {size}"]["rows/s"] for name in ("product", "bare"))
        figures[f"product / bare, batches of {size}"] = ratio(ours, theirs)
    remark = "a transaction that comes before the broker has ended the one before waits for the client, 20 to 100 ms"
    return Outcome(figures, remark=remark)


def _bare(bench: Bench, topics: Topics, raw: str, n_rows: int, size: int) -> Mapping[str, float]:
    return rates(bare(bench, topics.around(raw, max_poll_records=size), n_rows), n_rows)


def _product(bench: Bench, topics: Topics, raw: str, n_rows: int, size: int) -> Mapping[str, float]:
    settings = topics.around(raw, 1, _STATIONS, max_poll_records=size)
    return rates(product(bench, settings, n_rows, _STATIONS), n_rows)
