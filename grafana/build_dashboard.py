"""Write the Grafana dashboards: ``python -m grafana.build_dashboard``. A test keeps the committed JSON equal to this.

The first row answers whether the system can be relied on now, the second when alarms were open; then come the five panels
the system was asked for, and then what explains them. The runbook is a second dashboard: what ``docs/operations.md`` says
about each alert, so that it can be read where the alert is seen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import text
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.text import TextMode

from grafana.looks import BLUE, DATASOURCE, HEIGHT, RED, link
from grafana.panels import REPORTS_URL, RUNBOOK_URL, answers, asked_for, processes, quality, stream

ROOT = Path(__file__).parent.parent
DASHBOARD = ROOT / "grafana" / "dashboards" / "air_quality.json"
RUNBOOK = ROOT / "grafana" / "dashboards" / "runbook.json"
OPERATIONS = ROOT / "docs" / "operations.md"

Json = dict[str, Any]


def dashboard() -> Json:
    """Return the whole dashboard."""
    made = (
        build.Dashboard("Air quality: predictions and their monitoring")
        .uid("air-quality")
        .tags(["air-quality"])
        .refresh("10s")  # one of Grafana's own intervals; any other switches refreshing off
        .time("now-15m", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(
            build.QueryVariable("station")
            .label("Station")
            .datasource(DATASOURCE)
            .query("label_values(air_quality_open_alarms, station)")
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(models.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(_everything())
        )
        .with_variable(
            build.CustomVariable("kind")
            .label("Window")
            .values("daily,weekly")
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(_everything())
        )
        .link(link("Prometheus alerts", "http://localhost:9090/alerts"))
        .link(link("Model registry", "http://localhost:5000"))
        .link(link("Reports", REPORTS_URL))
        .link(link("What to do", RUNBOOK_URL))
    )
    for title, expression, color in ANNOTATIONS:
        made.annotation(
            build.AnnotationQuery().name(title).datasource(DATASOURCE).enable(True).icon_color(color).expr(expression)
        )
    number = 0
    for title, panels in ROWS:
        if title:
            number += 1
            made.with_row(build.Row(title).id(number))
        for panel in panels():
            number += 1
            made.with_panel(panel.id(number))
    return with_titles(_as_json(made))


#: Name, expression and colour of what is marked on the time axes.
ANNOTATIONS = [
    ("Model changes", "air_quality_model_info == 1 unless air_quality_model_info offset 1m", BLUE),
    ("Alarms", "max by (station, alarm) (air_quality_open_alarms) > 0", RED),
]
#: What an annotation says when the mouse is on it: Grafana's Prometheus plugin reads it, its schema does not list it.
ANNOTATION_TITLES = {"Model changes": "{{name}} version {{version}}", "Alarms": "{{station}} {{alarm}}"}
ROWS = [
    ("", answers),
    ("Service", asked_for),
    ("Data and model", quality),
    ("Rows", stream),
    ("Processes", processes),
]


def runbook() -> Json:
    """Return the runbook: a panel for each alert of docs/operations.md."""
    made = build.Dashboard("Air quality: what to do").uid("air-quality-runbook").tags(["air-quality"]).timezone("browser")
    made.link(link("Dashboard", "/d/air-quality"))
    for number, (alert, advice) in enumerate(alert_sections(OPERATIONS.read_text()), 1):
        made.with_panel(
            text.Panel().id(number).title(alert).content(advice).mode(TextMode.MARKDOWN).span(12).height(HEIGHT // 2)
        )
    return _as_json(made)


def alert_sections(page: str) -> Iterable[tuple[str, str]]:
    r"""Yield the name and text of each alert's section.

    >>> list(alert_sections("## Alerts\n### Gone\nLook.\n\n## Next\n### Not an alert\nx"))
    [('Gone', 'Look.')]
    """
    alerts = re.search(r"^## Alerts\n(.*?)(?=^## |\Z)", page, re.M | re.S)
    for section in re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", alerts[1] if alerts else "", re.M | re.S):
        yield section[0], section[1].strip()


def with_titles(made: Json) -> Json:
    """Return the dashboard with what its annotations say."""
    for annotation in made["annotations"]["list"]:
        annotation["titleFormat"] = ANNOTATION_TITLES[annotation["name"]]
    return made


def as_text(made: Json) -> str:
    """Return the file's content."""
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def _as_json(made: build.Dashboard) -> Json:
    return dict(json.loads(json.dumps(made.build(), cls=JSONEncoder)))


def _everything() -> models.VariableOption:
    return models.VariableOption(selected=True, text="All", value="$__all")


if __name__ == "__main__":
    for path, made in ((DASHBOARD, dashboard()), (RUNBOOK, runbook())):
        path.write_text(as_text(made))
        print(f"wrote {path}")
