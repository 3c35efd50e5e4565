"""Compare what was committed with what must have been: each difference is one sentence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lab.proof.oracle import Ruling
from lab.proof.topics import Found

Place = tuple[int, int]
BY_REASON = ("dead_letters", "truths")


def differences(ruling: Ruling, pred: Sequence[Found], dlq: Sequence[Found], summary: Mapping[str, Any]) -> list[str]:
    """Return every way in which the committed records or the summary differ from the ruling; none means proven."""
    return [*_predictions(ruling, pred), *_dead_letters(ruling, dlq), *_accounting(ruling, summary)]


def _predictions(ruling: Ruling, pred: Sequence[Found]) -> Iterator[str]:
    records = [json.loads(record.value or b"") for record in pred]
    places = [(record["source_partition"], record["source_offset"]) for record in records]
    hours = Counter((record["station_id"], record["DateTime"]) for record in records)
    yield from _some("predicted twice", (hour for hour, count in hours.items() if count > 1))
    published = dict(zip(places, records, strict=True))
    expected = ruling.predictions
    yield from _some("never predicted", (place for place in expected if place not in published))
    yield from _some("predicted, though it must not be", (place for place in published if place not in expected))
    yield from _some("another value, station or hour", _wrong(expected, published))


def _wrong(expected: Mapping[Place, tuple[str, str, float]], published: Mapping[Place, Any]) -> Iterator[object]:
    for place, (station, hour, value) in expected.items():
        record = published.get(place)
        if record and (record["station_id"], record["DateTime"], record["prediction"]) != (station, hour, value):
            yield f"{place}: {record['station_id']} {record['DateTime']} {record['prediction']!r}, not {value!r}"


def _dead_letters(ruling: Ruling, dlq: Sequence[Found]) -> Iterator[str]:
    places = [(int(letter.headers["source_partition"]), int(letter.headers["source_offset"])) for letter in dlq]
    reasons = {place: letter.headers["reason"].decode() for place, letter in zip(places, dlq, strict=True)}
    yield from _some("a dead letter twice", (place for place, count in Counter(places).items() if count > 1))
    yield from _some("no dead letter", (f"{place} ({why})" for place, why in ruling.dead.items() if place not in reasons))
    others = (f"{place} ({why})" for place, why in reasons.items() if place not in ruling.dead)
    yield from _some("a dead letter of a sound row", others)
    wrong = (f"{place}: {reasons[place]}, not {why}" for place, why in ruling.dead.items() if reasons.get(place, why) != why)
    yield from _some("another reason", wrong)


def _accounting(ruling: Ruling, summary: Mapping[str, Any]) -> Iterator[str]:
    expected = {
        "rows_in": len(ruling),
        "warmup": len(ruling.warmup),
        "predictions_total": len(ruling.predictions),
        "duplicates": len(ruling.duplicates),
        "dead_letters": dict(sorted(Counter(ruling.dead.values()).items())),
        "truths": dict(sorted(Counter(ruling.truths.values()).items())),
    }
    for name, value in expected.items():
        found = {reason: n for reason, n in summary[name].items() if n} if name in BY_REASON else summary[name]
        if found != value:
            yield f"the summary says {name} {found}, not {value}"


def _some(what: str, items: Iterable[object]) -> Iterator[str]:
    listed = list(items)
    if listed:
        yield f"{what}: {len(listed)}, such as {', '.join(map(str, listed[:3]))}"
