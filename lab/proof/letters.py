"""Rows refused by a mistake, sent again once it is mended: each is predicted, once, whatever is killed meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lab.proof import narrow
from lab.proof.identity import Refusal
from lab.proof.rows import SMALL, Outcome, Proof, die, injected, row
from lab.proof.site import Site
from lab.proof.topics import Sent
from lab.proof.traffic import interleaved, sent, stations
from lab.waiting import wait_until

_STATIONS = stations(4)
#: Hours of a station before the mistake, while it lasts, and after it is mended.
_BEFORE, _REFUSED, _AFTER = 172, 25, 6
_MISTAKE = {"AIR_QUALITY_NETWORK": "lab.proof.narrow:NARROW", "CONSUMER_INSTANCE_ID": "one"}


@row("letters")
def letters_sent_again(proof: Proof) -> Outcome:
    """100 rows refused by a wrong limit; once it is mended, `dlq replay`, killed and run again, predicts each once."""
    with proof.ground.site("letters") as site:
        raw, n_letters = site.topic("raw"), len(_STATIONS) * _REFUSED
        n_sent = site.cluster.send(raw, interleaved(proof.source, _STATIONS, _BEFORE))
        _consume_and_die(site)
        said = site.run("consumer.py", "--idle-exit-seconds", "6", code=None, environment=_MISTAKE)
        faults = Refusal(("the rules have changed", "SIGTERM")).faults(said, "a limit that rows in no snapshot exceed")
        site.finish(CONSUMER_INSTANCE_ID="one")  # in order: every station is saved
        n_sent += site.cluster.send(raw, _refused(proof))
        _consume_and_die(site, **_MISTAKE)
        before, predicted = site.cluster.ends(raw), len(site.cluster.committed(site.topic("pred")))
        consumer = site.consumer(**SMALL, CONSUMER_INSTANCE_ID="one")
        _killed_in_the_middle(site, before)
        resent = _resent(site)
        if not 0 < resent < n_letters:
            faults.append(f"{resent} were sent by the second run, none or all of {n_letters}")
        die(consumer)
        if (third := _resent(site)) != 0:
            faults.append(f"{third} were sent by a third run")
        n_sent += site.cluster.send(raw, interleaved(proof.source, _STATIONS, _AFTER, start=_BEFORE + _REFUSED))
        site.finish(CONSUMER_INSTANCE_ID="one")
        made = len(site.cluster.committed(site.topic("pred"))) - predicted - len(_STATIONS) * _AFTER
        if made != n_letters:
            faults.append(f"{made} predictions of {n_letters} repaired records")
        figures = {
            "letters": n_letters,
            "by the killed run": n_letters - resent,
            "predictions of them": made,
            "rows": n_sent,
        }
        return Outcome(figures, faults + proof.verdict(site))


def _refused(proof: Proof) -> Iterator[Sent]:
    """Yield sound rows that the mistake refuses: each has a temperature."""
    for index in range(_BEFORE, _BEFORE + _REFUSED):
        for offset, station in enumerate(_STATIONS):
            body = proof.source.body(station, index + 97 * offset, shift=-97 * offset)
            yield sent({**body, narrow.COLUMN: 12.25}, "out_of_range")


def _consume_and_die(site: Site, **environment: str) -> None:
    """Let a consumer read all there is, then kill it: what it held is in no snapshot."""
    consumer = site.consumer(**{**SMALL, "SNAPSHOT_SECONDS": "600", "CONSUMER_INSTANCE_ID": "one", **environment})
    site.caught_up()
    die(consumer)


def _killed_in_the_middle(site: Site, before: int) -> None:
    """Kill `dlq replay` once the first of its letters are in the raw topic and the others are not."""
    stalled = injected(PROOF_STALL_AT="between_sends:40:60")
    process = site.start("-m", "airquality", "dlq", "replay", "--reason", "out_of_range", **stalled)
    wait_until(lambda: process.poll() is not None or site.cluster.ends(site.topic("raw")) > before, "letters arrive")
    die(process)


def _resent(site: Site) -> int:
    said = site.run("-m", "airquality", "dlq", "replay", "--reason", "out_of_range")
    found = re.search(r"^(\d+) dead letters sent again", said, re.MULTILINE)
    return int(found[1]) if found else -1
