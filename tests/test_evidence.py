"""Evidently's part of a report: what is drawn, what is read back from it, and that nobody else imports it."""

from __future__ import annotations

import subprocess

import pytest

from airquality.ground.errors import ContractError
from airquality.monitoring.drift import JUDGED_COLUMNS
from tests.test_report_writer import ROOT, daily

pytestmark = pytest.mark.slow


def test_another_wording_of_evidently_is_noticed() -> None:
    from airquality.reports import evidence

    with pytest.raises(ContractError, match="wording"):
        evidence._as_evidence("Drift? Who knows.", [0.5])


def test_the_plan_draws_all_that_has_values() -> None:
    from airquality.reports.evidence import plan

    assert plan(daily()) == (list(JUDGED_COLUMNS), [])


def test_only_one_module_imports_evidently() -> None:
    found = subprocess.run(
        ["git", "grep", "-lE", r"^\s*(import|from) (evidently|plotly)", "--", "airquality", "*.py", ":!lab", ":!tests"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.stdout.split() == ["airquality/reports/evidence.py"]
