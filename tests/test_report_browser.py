"""Our pages in a real browser: axe finds nothing, nothing overflows. Needs chromium, and axe-core at ``AXE_CORE``."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tests import stations
from tests.whole_reports import WholeReports

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
AXE = os.environ.get("AXE_CORE", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM or not AXE, reason="needs chromium, and AXE_CORE=/path/to/axe.min.js"),
]
_REPORT = """
addEventListener('load', async () => {
  document.querySelectorAll('details').forEach(e => e.open = true)
  const found = await axe.run(document, {rules: {'target-size': {enabled: true}}})
  const out = document.createElement('pre')
  out.id = 'axe-result'
  out.textContent = JSON.stringify({
    violations: found.violations.map(v => [v.id, v.nodes[0].html.slice(0, 200)]),
    overflow: document.documentElement.scrollWidth - innerWidth,
  })
  document.body.append(out)
})
"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quiet station and one with faults."""
    folder = tmp_path_factory.mktemp("reports")
    writer, values = WholeReports(folder, stations.judge()), stations.values_of(48, seed=6)
    wrong = stations.without(stations.changed(values, {"C6H6(GT)": 200.0}), "RH", rows=slice(24, None))
    for window in (*stations.windows_of(values), *stations.windows_of(wrong, station_id="roof")):
        writer.write(window)
    return folder


def looked_at(page: Path, width: int, tmp_path: Path) -> dict[str, Any]:
    """Return what axe finds on a page, every details open, and by how many pixels it is wider than the window."""
    script = f"<script>{Path(AXE).read_text()}</script><script>{_REPORT}</script></head>"
    copy = page.with_name(f"axe-{page.name}")  # beside the page, so that its links lead where they did
    copy.write_text(page.read_text().replace("</head>", script, 1))
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
    command += [f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000", "--dump-dom", copy.as_uri()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    finally:
        copy.unlink()
    result = re.search(r'<pre id="axe-result">(.*?)</pre>', done.stdout, re.DOTALL)
    assert result, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(unescape(result[1]))
    return found


@pytest.mark.parametrize("width", [500, 1280])  # chromium's window is never narrower than 500
@pytest.mark.parametrize("kind", ["index.html", "daily/*.html", "daily/roof/*.html", "history/*.html", "windows/*.html"])
def test_page_in_a_browser_has_no_fault_that_axe_knows(reports: Path, tmp_path: Path, kind: str, width: int) -> None:
    found = looked_at(sorted(reports.glob(kind))[-1], width, tmp_path)
    assert found["violations"] == []
    assert found["overflow"] <= 0
