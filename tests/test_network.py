"""The declaration of a network: what it refuses, what follows from its roles, and how a process finds it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airquality.ground.errors import UsageError
from airquality.network import current
from airquality.network.declaration import Network, Twin
from airquality.network.uci_360 import UCI_360

ROOT = Path(__file__).resolve().parent.parent


def test_roles_say_what_the_device_is_and_what_the_detectors_compare() -> None:
    assert [column.short for column in UCI_360.device] == ["s1", "s2", "s3", "s4", "s5", "c6h6", "t", "rh", "ah"]
    assert [column.short for column in UCI_360.channels] == ["s1", "s2", "s3", "s4", "s5", "t", "rh", "ah"]
    assert [column.short for column in UCI_360.of_role("analyser")] == ["nox", "no2"]
    assert UCI_360.target.name == UCI_360.names[0]


def test_a_unit_in_ascii_is_what_the_wire_and_metric_names_hold() -> None:
    assert [column.ascii_unit for column in UCI_360.columns[-3:]] == ["degC", "%", ""]
    assert UCI_360["C6H6(GT)"].ascii_unit == "ug/m3"


def test_a_twin_names_its_sources_and_itself() -> None:
    assert [twin.group for twin in UCI_360.twins] == ["PT08.S2(NMHC)/C6H6(GT)", "T/RH/AH"]


def changed(**fields: Any) -> Network:
    return replace(UCI_360, **fields)


def with_column(name: str, /, **fields: Any) -> Network:
    columns = tuple(replace(column, **fields) if column.name == name else column for column in UCI_360.columns)
    return changed(columns=columns)


@pytest.mark.parametrize(
    ("declare", "reason"),
    [
        (lambda: with_column("CO(GT)", role="analyser"), "one column is the target, not 0"),
        (lambda: with_column("T", role="target"), "one column is the target, not 2"),
        (lambda: with_column("RH", name="T"), "name 'T' is there twice"),
        (lambda: with_column("RH", short="t"), "short name 't' is there twice"),
        (lambda: with_column("NMHC(GT)", name="DateTime"), "DateTime is a field of every record"),
        (lambda: with_column("T", limits=(70.0, -90.0)), "T: limits"),
        (lambda: with_column("PT08.S3(NOx)", floor=None), "PT08.S3.NOx. needs a floor"),
        (lambda: changed(calibrated=(("benzene", 1.0),)), "benzene is declared nowhere"),
        (lambda: changed(pairs=(("T", "CO(GT)"),)), "T needs a floor"),
        (lambda: changed(twins=(Twin("AH", "dew point", 1.0, 1, (0.0, 0.1)),)), "dew point is declared nowhere"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused_with_the_place(declare: object, reason: str) -> None:
    assert callable(declare)
    with pytest.raises(ValueError, match=reason):
        declare()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("no.such.module:NETWORK", "No module named"),
        ("airquality.network.uci_360:OTHER", "no attribute 'OTHER'"),
        ("airquality.network.uci_360", "no attribute"),
        (":", "no network there"),
        ("airquality.network.current:DEFAULT", "is str, not a Network"),
    ],
)
def test_load_of_what_is_no_declaration_says_how_to_name_one(place: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        current.load(place)


def test_program_with_a_network_that_is_not_there_ends_with_one_message_and_exit_code_2() -> None:
    environment = {**os.environ, current.VARIABLE: "no.such.module:NETWORK"}
    done = subprocess.run(
        [sys.executable, "producer.py", "--help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("AIR_QUALITY_NETWORK=no.such.module:NETWORK: no network there")
    assert len(done.stderr.splitlines()) == 1
