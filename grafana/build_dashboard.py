"""Write the Grafana dashboard: ``python grafana/build_dashboard.py``. A test keeps the committed JSON equal to this.

The JSON is ten times as long as what it says, so this says it. The first five panels are the ones the system was asked
for; the rest tells why they look as they do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parent / "dashboards" / "air_quality.json"
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}  # the uid pinned in datasources.yml
HEIGHT = 8
GREEN, YELLOW, RED = "green", "yellow", "red"

Json = dict[str, Any]

#: CO in mg/m3. WHO air quality guidelines 2021: 4 as a 24-hour mean (EU 2024/2881 takes it over for 2030). EU 2008/50/EC
#: and WHO 2010: 10 as an 8-hour mean. One hour above them is not yet an exceedance, hence yellow before red.
CO_GUIDELINES = [(None, GREEN), (4, YELLOW), (10, RED)]


def thresholds(steps: Sequence[tuple[float | None, str]]) -> Json:
    """Return Grafana's form of ``steps``, each a lower bound (None: from the bottom) and a colour."""
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}


def panel(width: int, kind: str, title: str, description: str, queries: dict[str, str], **field: Any) -> Json:
    """Return a panel of ``width`` columns. ``queries`` maps a legend to its expression, ``field`` is the fields' look."""
    defaults: Json = {"thresholds": thresholds([(None, GREEN)]), **field}
    if kind == "timeseries":
        defaults |= {"min": 0, "custom": {"fillOpacity": 10, "lineWidth": 2, "showPoints": "never", "spanNulls": False}}
    return {
        "type": kind,
        "title": title,
        "description": description,
        "gridPos": {"w": width, "h": HEIGHT},
        "datasource": DATASOURCE,
        "targets": [target(chr(ord("A") + i), kind, *query) for i, query in enumerate(queries.items())],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": OPTIONS[kind],
    }


def target(ref: str, kind: str, legend: str, expression: str) -> Json:
    """Return one query: its whole course where time is the axis, else only its value now."""
    over_time = kind == "timeseries"
    return {
        "refId": ref,
        "datasource": DATASOURCE,
        "expr": expression,
        "legendFormat": legend,
        "range": over_time,
        "instant": not over_time,
    }


_LAST_VALUE = {"values": False, "calcs": ["lastNotNull"], "fields": ""}
OPTIONS: dict[str, Json] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "gauge": {
        "reduceOptions": _LAST_VALUE,
        "showThresholdLabels": True,
        "showThresholdMarkers": True,
        "orientation": "auto",
    },
    "stat": {
        "reduceOptions": _LAST_VALUE,
        "graphMode": "none",
        "colorMode": "value",
        "justifyMode": "auto",
        "textMode": "value_and_name",
        "orientation": "auto",
        "wideLayout": True,
    },
    "bargauge": {
        "reduceOptions": _LAST_VALUE,
        "displayMode": "basic",
        "orientation": "horizontal",
        "showUnfilled": True,
        "valueMode": "color",
    },
}

#: From left to right, top to bottom; 24 columns are a full row.
PANELS = [
    panel(
        8,
        "timeseries",
        "Prediction latency",
        "Time to answer one request (of one or many rows), over the last minute.",
        {p.upper(): f"job:prediction_latency_seconds:{p}_1m" for p in ("p50", "p95", "p99")},
        unit="s",
    ),
    panel(
        8,
        "timeseries",
        "Throughput",
        "Rows predicted by the API and records consumed from Kafka. They differ while a station warms up.",
        {
            "predictions/s": "sum(rate(predictions_total[1m]))",
            "Kafka messages/s": "sum(rate(kafka_messages_consumed_total[1m]))",
        },
        unit="short",
    ),
    panel(
        8,
        "gauge",
        "Latest prediction",
        "CO(GT) of the hour predicted last, whichever station's. Yellow from 4 mg/m3 (WHO 2021, 24-hour mean), red from "
        "10 mg/m3 (EU 2008/50/EC, 8-hour mean).",
        {"CO(GT)": "prediction_value"},
        thresholds=thresholds(CO_GUIDELINES),
        unit="conmgm3",
        decimals=2,
        min=0,
        max=15,
    ),
    panel(
        12,
        "timeseries",
        "Missing values",
        "Missing features of the row predicted last. Real gaps in the sensors make it more than zero.",
        {"missing features": "missing_values_count"},
        unit="short",
        decimals=0,
    ),
    panel(
        12,
        "timeseries",
        "Error rate",
        "Prediction requests that failed, per second and by reason.",
        {"{{reason}}": "sum by (reason) (rate(inference_errors_total[1m]))"},
        unit="short",
    ),
    panel(
        8,
        "timeseries",
        "Consumer lag",
        "Records that wait in Kafka. Flat at zero is live; falling is catching up; rising is too slow.",
        {"partition {{partition}}": "sum by (partition) (air_quality_consumer_lag_records)"},
        unit="short",
    ),
    panel(
        8,
        "bargauge",
        "Rows by outcome",
        "What became of every row since the consumer started: these add up to the rows consumed.",
        {"{{outcome}} {{reason}}": "sum by (outcome, reason) (air_quality_rows_total)"},
        unit="short",
    ),
    panel(
        8,
        "timeseries",
        "Transaction time",
        "From polling a batch of records to the commit of all it caused.",
        {
            "P50": "histogram_quantile(0.50, sum by (le) (rate(air_quality_transaction_duration_seconds_bucket[1m])))",
            "P95": "histogram_quantile(0.95, sum by (le) (rate(air_quality_transaction_duration_seconds_bucket[1m])))",
        },
        unit="s",
    ),
    panel(
        5,
        "stat",
        "Model",
        "What the registry's champion alias points at, as the API serves it.",
        {"{{name}} version {{version}}": "air_quality_model_info == 1"},
    )
    | {"options": OPTIONS["stat"] | {"textMode": "name"}},
    panel(
        9,
        "timeseries",
        "Model quality",
        "RMSE of the latest closed window beside the reference's, in mg/m3.",
        {"{{kind}}": "max by (kind) (air_quality_window_rmse)", "baseline": "max(air_quality_baseline_rmse)"},
        unit="conmgm3",
    ),
    panel(
        5,
        "stat",
        "Open alarms",
        "1 while the monitoring service holds the alarm open.",
        {"{{alarm}}": "max by (alarm) (air_quality_open_alarms)"},
        thresholds=thresholds([(None, GREEN), (1, RED)]),
    ),
    panel(
        5,
        "stat",
        "Consumer",
        "Paused means: waiting for the API, dropping nothing.",
        {
            "paused": "max(air_quality_consumer_paused)",
            "seconds since the last prediction": "time() - max(air_quality_last_prediction_timestamp_seconds > 0)",
        },
    ),
    panel(
        12,
        "bargauge",
        "Reports",
        "HTML reports since the consumer started, and closed windows whose report is not written yet.",
        {
            "{{kind}} {{result}}": "sum by (kind, result) (air_quality_reports_total)",
            "waiting": "sum(air_quality_report_backlog)",
        },
        unit="short",
    ),
    panel(
        12,
        "bargauge",
        "Windows with drift",
        "Windows whose verdict is drift, since the consumer started; the thresholds are calibrated on the reference.",
        {"{{kind}}": "sum by (kind) (air_quality_drift_windows_total)"},
        unit="short",
    ),
]


def placed(panels: list[Json]) -> list[Json]:
    """Return the panels with their ids and their places on the grid."""
    out: list[Json] = []
    x = y = 0
    for number, each in enumerate(panels, 1):
        width = each["gridPos"]["w"]
        if x + width > 24:
            x, y = 0, y + HEIGHT
        out.append({"id": number, **each, "gridPos": {**each["gridPos"], "x": x, "y": y}})
        x += width
    return out


def dashboard() -> Json:
    """Return the whole dashboard."""
    return {
        "uid": "air-quality",
        "title": "Air quality: predictions and their monitoring",
        "tags": ["air-quality"],
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": 41,
        "refresh": "15s",
        "time": {"from": "now-15m", "to": "now"},
        "panels": placed(PANELS),
    }


def as_text() -> str:
    """Return the file's content."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(as_text())
    print(f"wrote {DASHBOARD}")
