"""A release upgraded between two runs: today's consumer goes on where an earlier one was killed, or says what to do."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from dataclasses import replace
from itertools import islice
from pathlib import Path

from lab.proof.identity import Refusal
from lab.proof.rows import SMALL, Outcome, Proof, die, row
from lab.proof.site import PROJECT, Site
from lab.proof.traffic import HOURS, STATIONS, interleaved
from lab.waiting import Failed

#: Where the format of what is saved of a station stands.
_FORMAT = ("-G", "^FORMAT = ", "--", "airquality/stream/snapshots.py")


@row("upgrade", quick=False)
def release_upgraded(proof: Proof) -> Outcome:
    """An earlier release's consumer killed, today's goes on: right, or one sentence, and right once that was done."""
    first = _git("log", "-1", "--format=%H", *_FORMAT).decode().strip()
    if not first:
        return Outcome(faults=["this clone has no history (git log): an earlier release cannot be had, not tried"])
    figures: dict[str, object] = {}
    faults: list[str] = []
    for what, release in (("of today's format", first), ("of the format before", f"{first}^")):
        folder = proof.ground.directory / f"release-{len(figures)}"
        with tarfile.open(fileobj=io.BytesIO(_git("archive", release))) as archive:
            archive.extractall(folder, filter="data")
        ended, found = _upgraded(proof, folder)
        figures[f"release {_git('rev-parse', '--short', release).decode().strip()} {what}"] = ended
        faults += [f"a release {what}: {fault}" for fault in found]
    return Outcome(figures, faults)


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, check=False)
    return done.stdout


def _upgraded(proof: Proof, release: Path) -> tuple[str, list[str]]:
    """Return how today's consumer took over from that release's, and what is wrong."""
    with proof.ground.site("upgrade", TOPIC_PARTITIONS="1") as site:
        earlier = _earlier(site, release)
        rows = interleaved(proof.source, STATIONS, HOURS)
        site.cluster.send(site.topic("raw"), islice(rows, 16 * 178))
        consumer = earlier.consumer(**SMALL)
        try:
            site.caught_up()
        except Failed as error:
            raise Failed(f"{error}; it said: {site.said()[-800:]}") from error
        die(consumer)
        site.cluster.send(site.topic("raw"), rows)
        said = site.run("consumer.py", "--idle-exit-seconds", "14", code=None)
        if "another release" not in said:
            return "goes on", ([f"a traceback: {said[-400:]}"] if "Traceback" in said else []) + proof.verdict(site)
        faults = Refusal(("delete the state topic",)).faults(said, "the refusal")
        site.cluster.recreate(site.topic("state"), 1, {"cleanup.policy": "compact"})
        site.finish(idle_seconds=14)
        return "refused, then rebuilt", faults + proof.verdict(site)


def _earlier(site: Site, release: Path) -> Site:
    """Return the site with that release's programs, and a calibration that they made themselves of the same data."""
    shutil.copytree(site.environment["DATASET_DIR"], release / "data")
    earlier = replace(site, project=release, environment={**site.environment, "DATASET_DIR": str(release / "data")})
    earlier.run("generate_reference_dataset.py")
    return earlier
