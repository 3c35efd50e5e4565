"""The lab's faults are what they say, its scores count what they say, and it refuses settings nobody committed."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from airquality.ground.errors import UsageError
from airquality.monitoring import registry, twins
from airquality.monitoring.relations import Relations
from lab.faultlab import rivals, scoreboard, settings, suite
from lab.faultlab.faults import COLUMNS, KINDS, Draw, Fault, Healthy, cases, inject, shift
from lab.faultlab.scoreboard import Score
from lab.faultlab.scoring import Cell, Name, judge, onsets_of
from tests import watched

S1, S2 = "PT08.S1(CO)", "PT08.S2(NMHC)"


def healthy() -> Healthy:
    return Healthy.of(watched.stream().values, watched.history().values)


@pytest.mark.parametrize("kind", KINDS)
def test_inject_changes_the_column_from_the_onset_on_and_is_the_same_again(kind: str) -> None:
    fault = Fault(kind, S1, follows=False, onset=300)
    relations = watched.calibration().suite.relations
    found = inject(healthy(), fault, relations)
    before, index = watched.stream().values, watched.column(S1)
    assert_array_equal(found[:300], before[:300])
    assert not np.array_equal(found[300:, index], before[300:, index], equal_nan=True)
    assert_array_equal(found, inject(healthy(), fault, relations))
    others = [i for i in range(13) if i != index and not (kind == "swap" and i == watched.column(S2))]
    assert_array_equal(found[:, others], before[:, others])


def test_inject_fault_that_computed_columns_follow_keeps_the_identities() -> None:
    relations = watched.calibration().suite.relations
    found = inject(healthy(), Fault("gain up", S2, follows=True, onset=300), relations)[300:]
    assert np.nanmax(departures(relations, found)[:, 0]) < 1.0
    found = inject(healthy(), Fault("step up", "T", follows=True, onset=300), relations)[300:]
    assert np.nanmax(departures(relations, found)[:, 1]) < 1.0


def departures(relations: Relations, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each twin is from what follows from its sources, in tolerances."""
    computed, tolerances = twins.expected(relations.twins, relations.twin_ranges, values)
    return np.abs(values[:, [watched.column(twin.column) for twin in twins.TWINS]] - computed) / tolerances


def test_cases_cover_every_kind_and_column_and_both_places_where_a_fault_can_enter() -> None:
    found = cases([0, 100])
    assert {fault.kind for fault in found} == set(KINDS)
    assert len(KINDS) == 13
    assert {fault.column for fault in found} == set(COLUMNS)
    assert {fault.column for fault in found if fault.follows} == {S2, "T", "RH"}
    assert len(found) == 13 * (10 + 3) * 2


def test_judge_counts_delay_first_name_and_chance() -> None:
    fault = Fault("stuck", S1, follows=False, onset=0)
    found = judge(fault, 1000, [Name("T", 1003), Name(S1, 1007), Name(S1, 900)], [Name("T", 1010)])
    assert (found.named, found.any_alarm, found.first, found.first_right, found.chance) == (7, 7, S1, True, False)
    assert judge(fault, 1000, [], [Name(S1, 1001)]).chance
    assert judge(fault, 1000, [Name(S1, 1000 + 14 * 24)], []).named == math.inf


def test_judge_group_counts_for_its_members() -> None:
    fault = Fault("gain up", "AH", follows=False, onset=0)
    assert judge(fault, 0, [Name("T/RH/AH", 2)], []).named == 2


def test_cell_delays_are_the_median_and_the_eleventh_of_twelve() -> None:
    fault = Fault("stuck", S1, follows=False, onset=0)
    outcomes = [judge(fault, 0, [Name(S1, delay)] if delay < 300 else [], []) for delay in [*range(10, 120, 10), 999]]
    cell = Cell.of(outcomes)
    assert (cell.n, cell.named, cell.median, cell.late) == (12, 11, 65, 110)


def test_onsets_lie_at_twelve_hours_of_the_day_with_two_weeks_after_each() -> None:
    onsets = onsets_of(1404)
    assert len({onset % 24 for onset in onsets}) >= 8
    assert onsets[-1] + 336 <= 1404


def repository(folder: Path) -> Path:
    for name in ("lab/faultlab", "airquality/monitoring", "airquality/network"):
        (folder / name).mkdir(parents=True)
        (folder / name / "a.py").write_text("x = 1\n")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def test_require_committed_clean_repository_returns_the_commit(tmp_path: Path) -> None:
    assert len(settings.require_committed(repository(tmp_path))) == 40


@pytest.mark.parametrize("changed", ["lab/faultlab/settings.json", "airquality/monitoring/a.py", "airquality/network/a.py"])
def test_require_committed_changed_settings_or_detectors_are_refused(tmp_path: Path, changed: str) -> None:
    (repository(tmp_path) / changed).write_text("x = 2\n")
    with pytest.raises(UsageError, match=r"Commit them first(.|\n)*--history"):
        settings.require_committed(tmp_path)


def test_require_committed_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Cannot tell"):
        settings.require_committed(tmp_path)


def flag_above(reference: np.ndarray, before: np.ndarray, after: np.ndarray) -> list[int]:
    """A detector of one's own: any value above everything in the reference."""
    return np.flatnonzero(after > np.nanmax(reference)).tolist()


@pytest.mark.slow
def test_lab_scores_detectors_and_a_rival_of_ones_own_and_writes_the_board(tmp_path: Path) -> None:
    calibration, stream, reference = watched.calibration(), watched.stream(), watched.history().values
    faults = cases([300], ("stuck", "step up"))
    ours = suite.outcomes(calibration, stream.hours, healthy(), faults, 1.0)
    named = {o.fault.column for o in ours if o.fault.kind == "stuck" and o.named < 30}
    assert {S1, S2, "PT08.S4(NO2)"} <= named
    name, rival = rivals.own("tests.test_faultlab:flag_above")
    inputs = [inject(healthy(), fault, calibration.suite.relations) for fault in faults]
    theirs = rivals.outcomes(rival, reference, stream.hours, healthy(), faults, inputs)
    clean = rivals.clean_names(rival, reference, stream.hours, stream.values)
    scores = [Score(scoreboard.DETECTORS, ours, [], len(stream)), Score(name, theirs, clean, len(stream))]
    paths = scoreboard.write(scores, ["a fact"], tmp_path, "A board")
    assert [path.name for path in paths] == ["scoreboard.md", "scores.csv", "delays.png", "index.html"]
    assert "flag_above" in paths[0].read_text()
    assert len(paths[1].read_text().splitlines()) == 1 + 2 * len(faults)


def test_documented_detector_of_ones_own_is_short_and_runs_in_the_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (settings.ROOT / "docs" / "detectors.md").read_text().split("```python\n")[1].split("```")[0]
    assert len(source.splitlines()) < 30
    (tmp_path / "mine.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    name, rival = rivals.own("mine:ewma")
    stream, reference = watched.stream(), watched.history().values
    faults = [Fault("step up", S1, follows=False, onset=300)]
    inputs = [inject(healthy(), fault, watched.calibration().suite.relations, shift(6.0)) for fault in faults]
    found = rivals.outcomes(rival, reference, stream.hours, healthy(), faults, inputs)
    assert name == "mine:ewma"
    assert found[0].named < 100


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One more component is registered, by its line in the registry alone."""
    monkeypatch.setattr(registry, "COMPONENTS", (*registry.COMPONENTS, "tests.toy_jump:Jump"))
    registry.components.cache_clear()
    yield
    registry.components.cache_clear()


@pytest.mark.usefixtures("toy")
def test_lab_scores_a_component_that_was_only_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_hour(values: NDArray[np.float64], before: NDArray[np.float64], draw: Draw) -> NDArray[np.float64]:
        return np.concatenate([1.5 * before[-1:], values[1:]])

    monkeypatch.setitem(KINDS, "step up", one_hour)
    fault = Fault("step up", S1, follows=False, onset=300)
    [outcome] = suite.outcomes(watched.calibration(), watched.stream().hours, healthy(), [fault], 1.0)
    assert (outcome.named, outcome.first) == (0.0, S1)


def test_rival_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(UsageError, match="module:function"):
        rivals.own("no.such:thing")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if "Evidently" in name else []) for name in rivals.RIVALS]
)
def test_rival_sees_a_shift_of_five_sd(name: str) -> None:
    rng = np.random.default_rng(0)
    reference, before = rng.normal(100, 1, 1404), rng.normal(100, 1, 400)
    assert rivals.RIVALS[name](reference, before, rng.normal(105, 1, 336))
