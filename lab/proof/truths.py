"""Truth that comes late: a day after its row, and again, and otherwise, and too late, and of hours that never were."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from airquality.incoming import TRUTH, TYPE_HEADER
from airquality.records import TARGET
from lab.child import Child
from lab.proof import oracle
from lab.proof.rows import SMALL, Outcome, Proof, die, row
from lab.proof.site import Site
from lab.proof.topics import Sent
from lab.proof.traffic import HOURS, Source, sent, stations

_DELAY_HOURS = 24
#: A row of these was never sent; a row of those came with its truth.
_HOLES, _TOLD = (60, 150, 171), (40, 140, 165)
#: A station of which nothing but a truth is ever sent.
_STRANGER = "proof-stranger"
#: A value that no analyser gives: its digits are tenths.
_OTHERWISE = 0.251


@row("late")
def truth_a_day_late(proof: Proof) -> Outcome:
    """Truth a day late, repeated, contradicting, too old and of hours never streamed, while two consumers are killed."""
    names, kills = stations(4 * proof.scale), 4 * proof.scale
    with proof.ground.site("late") as site:
        lives = [list(_life(_Told(proof.source, name, 97 * place), proof.rng)) for place, name in enumerate(names)]
        records = [_Told(proof.source, _STRANGER).truth(0, "never_streamed"), *_in_turns(lives)]
        waiting = iter(records)
        running = {name: _start(site, name) for name in ("one", "two")}
        for number in range(kills):
            site.cluster.send(site.topic("raw"), islice(waiting, len(records) // kills))
            time.sleep(float(proof.rng.uniform(1.0, 5.0)))
            victim = ("one", "two")[number % 2]
            die(running[victim])
            running[victim] = _start(site, victim)
        site.cluster.send(site.topic("raw"), waiting)
        site.caught_up()
        for process in running.values():
            die(process)
        site.finish(idle_seconds=14)
        figures = {"kills": kills + 2, "rows": len(names) * (HOURS - len(_HOLES)), "late truths": _n_truths(records)}
        return Outcome(figures, [*proof.verdict(site), *_not_rebuilt(site, names)])


def _start(site: Site, instance: str) -> Child:
    """Start a consumer that takes the place of its killed predecessor at once."""
    return site.consumer(**SMALL, CONSUMER_INSTANCE_ID=instance)


def _n_truths(records: list[Sent]) -> int:
    return sum(record.expect.startswith(oracle.TRUTH) for record in records)


def _not_rebuilt(site: Site, names: tuple[str, ...]) -> Iterator[str]:
    """Yield a sentence for each station whose predictions ``python -m airquality replay`` does not rebuild to the bit."""
    n = HOURS - len(_HOLES) - oracle.HISTORY
    for name in names:
        said = site.run("-m", "airquality", "replay", "--station", name, code=None)
        if f"{name}: {n} predictions, {n} rebuilt equal to the bit" not in said:
            yield f"replay: not {n} predictions equal to the bit: {said[-400:]}"


# ---- what is sent ----


def _in_turns(lives: list[list[Sent]]) -> Iterator[Sent]:
    """Yield the records of all lives, one of each in turn, until all have ended."""
    for index in range(max(map(len, lives))):
        yield from (life[index] for life in lives if index < len(life))


class _Told:
    """What a station has sent so far: its rows, and the truths that fill them; ``start`` hours into the source."""

    def __init__(self, source: Source, station: str, start: int = 0) -> None:
        self._source, self._station, self._start = source, station, start
        self.rows: set[int] = set()
        self._filled: set[int] = set()

    def row(self, index: int) -> Sent:
        """Return the row of an hour: without its truth, but for a few."""
        self.rows.add(index)
        body = self._body(index)
        if index in _TOLD and body[TARGET] is not None:
            self._filled.add(index)
            return sent(body)
        return sent({**body, TARGET: None})

    def tell(self, index: int) -> Iterator[Sent]:
        """Yield the truth of an hour that has a row, where one was measured."""
        if self._body(index)[TARGET] is not None:
            yield self.truth(index, "repeated" if index in self._filled else "filled")
            self._filled.add(index)

    def again(self, index: int, rng: np.random.Generator) -> Iterator[Sent]:
        """Yield a truth that fills nothing, before the row of hour ``index``."""
        newest = max(self.rows)
        known = sorted(hour for hour in self._filled if newest - hour < oracle.HISTORY)
        never = [*(hour for hour in _HOLES if hour < index), index, index + 30]
        yield self.truth(newest - oracle.HISTORY - int(rng.integers(0, 50)), "too_old")
        yield self.truth(never[int(rng.integers(0, len(never)))], "never_streamed")
        if known:
            yield self.truth(known[int(rng.integers(0, len(known)))], "repeated")
            yield self.truth(known[int(rng.integers(0, len(known)))], "contradicting", _OTHERWISE)

    def truth(self, index: int, outcome: str, value: float | None = None) -> Sent:
        """Return the truth of an hour, the measured one or another value, and what must become of it."""
        body = self._body(index)
        told = {**body, TARGET: body[TARGET] or 1.5} if value is None else {**body, TARGET: value}
        kept = {name: told[name] for name in ("station_id", "DateTime", TARGET)}
        return sent(kept, oracle.TRUTH + outcome, headers=((TYPE_HEADER, TRUTH.encode()),))

    def _body(self, index: int) -> dict[str, Any]:
        return self._source.body(self._station, index + self._start, shift=-self._start)


def _life(told: _Told, rng: np.random.Generator) -> Iterator[Sent]:
    """Yield a station's rows without their truths, each truth before the row a day later, and some that fill nothing."""
    for index in range(HOURS):
        if index - _DELAY_HOURS in told.rows:
            yield from told.tell(index - _DELAY_HOURS)
        if index > _DELAY_HOURS and rng.random() < 0.1:
            yield from told.again(index, rng)
        if index not in _HOLES:
            yield told.row(index)
