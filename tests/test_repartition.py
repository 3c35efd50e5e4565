"""Where stations go when partitions are added; the move itself is in ``test_restore.py``, on a real broker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from kafka.partitioner.default import murmur2 as javas

from airquality.ground.settings import Settings
from airquality.stream import partitioners, repartition, snapshots
from airquality.stream.account import Note, Topics
from airquality.stream.kafka_io import Record
from airquality.stream.partitioners import moved_to
from airquality.stream.repartition import Found, Move
from airquality.stream.saved import NOTE_HEADER, SINCE_HEADER, SavedStations

BEFORE, NOW = Topics(partitions=3), Topics(partitions=5)
STATIONS = [f"station-{number}" for number in range(40)]


PARTITIONERS = (partitioners.murmur2, partitioners.crc32)


def found(homes: dict[str, int], snapshot: bytes = b"") -> Found:
    headers = ((NOTE_HEADER, Note(topics=BEFORE).encode().encode()), (SINCE_HEADER, b"7"))
    records = {
        p: [Record(p, 0, s.encode(), snapshot, 0, headers) for s, home in homes.items() if home == p] for p in range(5)
    }
    return Found(NOW, {p: Note(topics=BEFORE) for p in range(3)}, {p: SavedStations(records[p]) for p in range(5)})


def test_murmur2_is_that_of_javas_clients() -> None:
    for name in [*STATIONS, "", "a", "bc", "def", "żółw"]:
        key = name.encode()
        assert partitioners.murmur2(key, 7) == (javas(key) & 0x7FFFFFFF) % 7


@pytest.mark.parametrize("partitioner", [partitioners.murmur2, partitioners.crc32])
def test_moved_to_follows_the_partitioner_that_sent_the_station_home(partitioner: Callable[[bytes, int], int]) -> None:
    agree = 0
    for name in STATIONS:
        key = name.encode()
        home = partitioner(key, 3)
        agree += moved_to(name, home, 3, 5) == partitioner(key, 5)
    assert agree >= 0.6 * len(STATIONS)  # a third has the same home by both, and cannot be told apart
    assert agree == len(STATIONS) or partitioner is partitioners.crc32


def test_moved_to_of_a_partition_that_no_partitioner_chose_stays() -> None:
    name = next(s for s in STATIONS if 2 not in (partitioners.murmur2(s.encode(), 3), partitioners.crc32(s.encode(), 3)))
    assert moved_to(name, 2, 3, 5) == 2


def test_moves_unread_rows_say_where_a_station_comes_now() -> None:
    name = next(s for s in STATIONS if partitioners.murmur2(s.encode(), 3) == 0 != partitioners.murmur2(s.encode(), 5))
    home = found({name: 0})
    assert repartition.moves(home, {}) == [Move(name, 0, partitioners.murmur2(name.encode(), 5))]
    assert repartition.moves(home, {name: Counter({4: 2})}) == [Move(name, 0, 4)]
    assert repartition.moves(home, {name: Counter({0: 2})}) == []
    assert repartition.moves(home, {name: Counter({0: 2, 4: 3})}) == []  # those at home are read there first


def test_staying_names_stations_whose_rows_wait_at_home_and_come_elsewhere_next() -> None:
    moving = next(s for s in STATIONS if partitioners.murmur2(s.encode(), 3) == 0 != partitioners.murmur2(s.encode(), 5))
    fixed = next(s for s in STATIONS if all(p(s.encode(), n) == 0 for p in PARTITIONERS for n in (3, 5)))
    home = found({moving: 0, fixed: 0})
    assert repartition.staying(home, {moving: Counter({0: 2}), fixed: Counter({0: 2})}) == [moving]
    assert repartition.staying(home, {fixed: Counter({0: 2, 4: 1})}) == [fixed]
    assert repartition.staying(home, {moving: Counter({4: 2})}) == []


def test_moves_refused_rows_say_where_a_station_comes_now_unless_it_goes_on_at_home() -> None:
    snapshot = snapshots.encode({"buffer": {"newest_hour": 100}})
    home = found({"roof": 0}, snapshot)
    for hour, where in ((101, [Move("roof", 0, 2)]), (100, [])):
        refused = replace(home, refused={"roof": (2, hour)}, topics=BEFORE)
        assert repartition.moves(refused, {}) == where
        assert repartition.moves(refused, {"roof": Counter({0: 1})}) == []


def test_left_behind_counts_rows_on_partitions_the_station_leaves() -> None:
    planned = [Move("roof", 0, 4), Move("yard", 1, 3)]
    assert repartition.left_behind(planned, {"roof": Counter({0: 2, 4: 5}), "yard": Counter({3: 1})}) == {"roof": 2}
    assert repartition.left_behind(planned, {}) == {}


def test_absent_names_what_the_group_left_and_is_not_there_any_more() -> None:
    ids = replace(BEFORE, raw="raw", pred="pred", state="state")
    left = found({"roof": 0, "yard": 1})
    notes = {0: Note(topics=ids, n_saved=1), 1: Note(topics=ids, n_saved=1)}
    whole = replace(left, topics=replace(ids, partitions=5), notes=notes)
    assert repartition.absent(whole, Settings()) == ""
    for role, name in (("raw", "air_quality.raw"), ("pred", "air_quality.pred"), ("state", "air_quality.state")):
        changed: dict[str, Any] = {role: "another"}
        recreated = replace(whole, topics=replace(whole.topics, **changed))
        assert repartition.absent(recreated, Settings()).startswith(f"{name} was deleted and created anew")
    emptied = replace(whole, saved={**whole.saved, 1: SavedStations()})
    assert "lacks the snapshots of 1 stations of partition 1" in repartition.absent(emptied, Settings())


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        repartition.main(["--help"])
    said = capsys.readouterr().out
    for taught in ("--dry-run", "--partitions", "--accept-loss", "stop all consumers", "exit status: 0"):
        assert taught in said
