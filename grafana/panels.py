"""The panels of the dashboard, row by row, and the expressions they draw."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import BigValueTextMode

from airquality.metrics import STATION_PREDICTION
from airquality.network.current import NETWORK
from airquality.records import TARGET, TARGET_UNIT
from grafana.looks import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    bars,
    course,
    dial,
    dotted,
    history,
    link,
    listing,
    thresholds,
    tile,
)
from grafana.units import panel_unit

RUNBOOK_URL = "/d/air-quality-runbook"
REPORTS_URL = "http://localhost:8000/reports/"

#: One hour above a guideline for longer means is not yet an exceedance, hence yellow before red.
_YELLOW, _RED = NETWORK.guidelines
GUIDELINES = [(0, GREEN), (_YELLOW.value, YELLOW), (_RED.value, RED)]
TARGET_PANEL_UNIT = panel_unit(NETWORK.target.unit)
COUNT_IS_BAD = [(0, GREEN), (1, RED)]

#: Rates look at no less than four scrapes and, zoomed out, at all that lies between two points: no burst is lost.
RATE = "[$__rate_interval]"
STATION = 'station=~"$station"'
KIND = 'kind=~"$kind"'

#: The series of the model that the consumer asks; those of another one have its slot as a label.
FIRST_MODEL = '{model=""}'

API_STATE = (
    f'(max(up{{job="api"}}) == 1 unless on () air_quality_model_info{FIRST_MODEL}) * 0 + 2'
    ' or (max(up{job="api"}) == 1 and on () max(air_quality_registry_unreachable) == 1) * 0 + 3'
    ' or max(up{job="api"}) or vector(0)'  # of a service that is gone nothing is scraped any more
)
CONSUMER_STATE = (
    "(max(air_quality_consumer_refused) == 1) * 0 + 4"
    ' or (time() - min(air_quality_kafka_answered_timestamp_seconds{job="consumer"}) > 30) * 0 + 3'
    " or (max(air_quality_consumer_paused) == 1) * 0 + 2"
    ' or max(up{job="consumer"}) or vector(0)'
)


def latency_quantile(quantile: float) -> str:
    """Return the expression of a quantile of the time to answer a request."""
    return f"histogram_quantile({quantile:.2f}, sum by (le) (rate(prediction_latency_bucket{RATE})))"


def answers() -> list[Any]:
    """Return the first row: one glance, one answer each."""
    return [*_services(), *_flow(), *_trust()]


def _services() -> list[Any]:
    return [
        tile(
            3,
            "API",
            "Whether the prediction service answers Prometheus, has a model, and gets a champion from the registry.",
            {"state": API_STATE},
            states={0: ("DOWN", RED), 1: ("UP", GREEN), 2: ("NO MODEL", RED), 3: ("NO CHAMPION", YELLOW)},
        ).links([link("What to do", RUNBOOK_URL)]),
        tile(
            3,
            "Consumer",
            "Waiting: for the API. No Kafka: no answer for 30 s. Refused: it would lose or repeat rows. No row is lost in "
            "any of these.",
            {"state": CONSUMER_STATE},
            states={
                0: ("DOWN", RED),
                1: ("RUNNING", GREEN),
                2: ("WAITING", ORANGE),
                3: ("NO KAFKA", RED),
                4: ("REFUSED", RED),
            },
        ).links([link("What to do", RUNBOOK_URL)]),
    ]


def _flow() -> list[Any]:
    return [
        tile(
            3,
            "Last prediction",
            "How long ago the last prediction was committed. Yellow after 2 minutes: nothing comes, or nothing is "
            "predicted. Red after 65: a live station sends a row an hour.",
            {"age": "time() - max(air_quality_last_prediction_timestamp_seconds > 0)"},
            steps=[(0, GREEN), (120, YELLOW), (3900, RED)],
            unit="s",
        ),
        tile(
            3,
            "Alerts firing",
            "Listed below with what each says; the runbook says what to do.",
            {"firing": 'count(ALERTS{alertstate="firing"}) or vector(0)'},
            steps=COUNT_IS_BAD,
        ).links([link("Prometheus", "http://localhost:9090/alerts"), link("What to do", RUNBOOK_URL)]),
    ]


def _trust() -> list[Any]:
    return [
        tile(
            8,
            "Can the data and the model be trusted?",
            "Alarms the monitoring service holds open, by what they are about. The reports say which columns and hours.",
            {"{{alarm}}": f"sum by (alarm) (air_quality_open_alarms{{{STATION}}})"},
            states={0: ("ok", GREEN)},
            steps=COUNT_IS_BAD,
        ).links([link("Reports", REPORTS_URL)]),
        tile(
            4,
            "Model",
            "What the registry's champion alias points at, as the API serves it.",
            {"{{name}} version {{version}}": "air_quality_model_info == 1"},
            steps=[(1, BLUE)],
        )
        .text_mode(BigValueTextMode.NAME)
        .links([link("Model registry", "http://localhost:5000")]),
        history(
            "Alarms and alerts over time",
            "Red: open or firing. A gap is a time of which nothing is known.",
            {
                "{{station}} {{alarm}}": f"max by (station, alarm) (air_quality_open_alarms{{{STATION}}})",
                "{{alertname}}": 'max by (alertname) (ALERTS{alertstate="firing"})',
            },
            states={0: ("ok", GREEN)},
            steps=COUNT_IS_BAD,
        ).links([link("Reports", REPORTS_URL), link("What to do", RUNBOOK_URL)]),
    ]


def asked_for() -> list[Any]:
    """Return the five panels the system was asked for, in that order."""
    missing = f"sum(increase(air_quality_missing_features_total{RATE}))"
    return [
        course(
            8,
            "Prediction latency",
            "Time to answer one request (of one or many rows).",
            {"P50": latency_quantile(0.5), "P95": latency_quantile(0.95), "P99": latency_quantile(0.99)},
            unit="s",
        ),
        course(
            8,
            "Throughput",
            "Rows predicted by the API and records consumed from Kafka. They differ while a station warms up.",
            {
                "predictions/s": f"sum(rate(predictions_total{RATE}))",
                "Kafka messages/s": f"sum(rate(kafka_messages_consumed_total{RATE}))",
            },
        ),
        dial(
            8,
            "Latest prediction",
            f"{TARGET} of the hour predicted last, whichever station's; nothing before the first. Yellow from "
            f"{_YELLOW.value:g} {TARGET_UNIT} ({_YELLOW.source}), red from {_RED.value:g} {TARGET_UNIT} ({_RED.source}).",
            {TARGET: f"max(prediction_value{FIRST_MODEL}) and on () sum(predictions_total{FIRST_MODEL}) > 0"},
            GUIDELINES,
            TARGET_PANEL_UNIT,
            _RED.value * 3 // 2,
        ),
        course(
            12,
            "Missing values",
            "Missing features of all rows predicted since the point before, and of the row that a scrape happened to meet. "
            "Real gaps in the sensors make them more than zero.",
            {"all rows": missing, "latest row": f"max(missing_values_count{FIRST_MODEL})"},
        ).decimals(0),
        course(
            12,
            "Error rate",
            "Prediction requests that failed, per second and by reason.",
            {"{{reason}}": f"sum by (reason) (rate(inference_errors_total{RATE}))"},
        ).links([link("What to do", RUNBOOK_URL)]),
    ]


def quality() -> list[Any]:
    """Return what is known of data and model."""
    return [*_windows(), *_truth(), *_findings()]


def _truth() -> list[Any]:
    """Return what is said of the error before its truth, once it is final, and of the intervals."""
    of_kind, by_group = f"{{{STATION}, {KIND}}}", "max by (station, kind, group)"
    return [
        dotted(
            course(
                8,
                "Window error: expected, as known, final",
                "RMSE of each station's latest window: expected before its truth (dotted), as known when it closed, final.",
                {
                    "{{station}} {{kind}} expected": f"max by (station, kind) (air_quality_window_estimated_rmse{of_kind})",
                    "{{station}} {{kind}} as known": f"max by (station, kind) (air_quality_window_rmse{of_kind})",
                    "{{station}} {{kind}} final": f"max by (station, kind) (air_quality_window_final_rmse{of_kind})",
                },
                unit=TARGET_PANEL_UNIT,
            ),
            "/ expected$/",
        ),
        course(
            6,
            "Truths inside the 90 % interval",
            "Of each station's latest final window; by level of the prediction and state of the device.",
            {
                "{{station}} {{kind}} {{group}}": f"{by_group} (air_quality_interval_coverage_ratio{of_kind})",
                "promised": "0 * max(air_quality_interval_coverage_ratio) + 0.9",
            },
            unit="percentunit",
        ).max(1),
        course(
            5,
            "Label delay and estimate",
            "How late truth comes, in hours; how far expected errors were from final ones so far, in per cent.",
            {
                "{{station}} {{kind}} delay, h": f"max by (station, kind) (air_quality_label_delay_seconds{of_kind}) / 3600",
                "{{station}} {{kind}} off, %": f"100 * max by (station, kind) (air_quality_estimate_error_ratio{of_kind})",
            },
        ),
        course(
            5,
            "Age of the thresholds",
            "Event time since the end of the history that the hourly detectors' thresholds are calibrated on.",
            {"{{station}}": f"max by (station) (air_quality_thresholds_age_seconds{{{STATION}}})"},
            unit="s",
        ),
    ]


def _windows() -> list[Any]:
    windows = f"sum by (kind) (air_quality_windows_total{{{STATION}, {KIND}}})"
    return [
        course(
            9,
            f"Predicted {TARGET} by station",
            "Each station's latest prediction.",
            {"{{station}}": f"max by (station) ({STATION_PREDICTION}{{{STATION}}})"},
            unit=TARGET_PANEL_UNIT,
        ),
        course(
            9,
            "Window error beside the baseline",
            "RMSE of each station's latest closed window beside the reference's.",
            {
                "{{station}} {{kind}}": f"max by (station, kind) (air_quality_window_rmse{{{STATION}, {KIND}}})",
                "baseline": "max(air_quality_baseline_rmse)",
            },
            unit=TARGET_PANEL_UNIT,
        ).links([link("Reports", REPORTS_URL)]),
        bars(
            6,
            "Windows with drift",
            "Share of the windows judged since the consumer started; the thresholds are calibrated on the reference.",
            {"{{kind}}": f"sum by (kind) (air_quality_drift_windows_total{{{STATION}, {KIND}}}) / ({windows} > 0)"},
            [(0, GREEN), (0.2, YELLOW), (0.5, RED)],
            unit="percentunit",
        )
        .max(1)
        .links([link("Reports", REPORTS_URL)]),
    ]


def _findings() -> list[Any]:
    return [
        bars(
            6,
            "Reports",
            "Reports since the consumer started; windows whose page is not written yet; pages without Evidently's part yet.",
            {
                "{{kind}} {{result}}": f"sum by (kind, result) (air_quality_reports_total{{{KIND}}})",
                "waiting": "sum(air_quality_report_backlog)",
                "Evidently's part waiting": "sum(air_quality_evidence_backlog)",
            },
            [(0, BLUE)],
        )
        .override_by_regexp("/failed/", [models.DynamicConfigValue("thresholds", thresholds(COUNT_IS_BAD).build())])
        .links([link("Reports", REPORTS_URL)]),
        bars(
            6,
            "Monitoring that is off",
            "Stations for which a part has failed and is off until the next start; hourly detectors that judge nothing; "
            "windows judged against another model's reference; summaries that could not be written. Predictions go on.",
            {
                "{{part}}, stations": "sum by (part) (air_quality_monitoring_parts_off)",
                "hourly detectors": "max(air_quality_detectors_off)",
                "another model's reference": "max(air_quality_model_uncalibrated)",
                "unwritten summaries": "sum(air_quality_unwritten_summaries_total)",
            },
            COUNT_IS_BAD,
        ).links([link("What to do", RUNBOOK_URL)]),
        listing(
            12,
            "Alerts firing now",
            "What each is about; the runbook says what to do.",
            'ALERTS{alertstate="firing"}',
            ("Time", "Value", "__name__", "alertstate", "job", "instance"),
            RUNBOOK_URL,
        ),
    ]


def stream() -> list[Any]:
    """Return what becomes of the rows."""
    transaction = f"sum by (le) (rate(air_quality_transaction_duration_seconds_bucket{RATE}))"
    return [
        bars(
            6,
            "Rows by outcome",
            "What became of every row since the consumer started: with the dead letters these add up to the rows consumed.",
            {"{{outcome}}": 'sum by (outcome) (air_quality_rows_total{outcome!="dead_letter"})'},
            [(0, BLUE)],
        ),
        bars(
            6,
            "Dead letters and losses",
            "Rows refused since the consumer started, by reason; and rows given up on purpose.",
            {
                "{{reason}}": 'sum by (reason) (air_quality_rows_total{outcome="dead_letter"})',
                "accepted losses": "sum(air_quality_lost_rows_total)",
            },
            [(0, GREEN), (1, YELLOW)],
        ).links([link("What to do", RUNBOOK_URL)]),
        course(
            6,
            "Consumer lag",
            "Records that wait in Kafka, says the broker. Flat at zero is live; falling is catching up; rising is too slow.",
            {"partition {{partition}}": "sum by (partition) (air_quality_group_lag_records)"},
        ),
        course(
            6,
            "Transaction time",
            "From polling a batch of records to the commit of all it caused.",
            {f"P{share}": f"histogram_quantile(0.{share}, {transaction})" for share in (50, 95)},
            unit="s",
        ),
        course(
            12,
            "Silence",
            "Since a station's last row, by the clock. A live station sends a row an hour; after a replay this only grows.",
            {"{{station}}": f"time() - max by (station) (air_quality_station_last_row_timestamp_seconds{{{STATION}}})"},
            unit="s",
        ),
        course(
            12,
            "Consumers",
            "Members of the consumer group, as the broker knows it; and those that Prometheus reaches.",
            {"in the group": "sum(air_quality_group_members)", "scraped": 'sum(up{job="consumer"})'},
        ),
    ]


def processes() -> list[Any]:
    """Return what the programs take of the machine."""
    ours = '{job=~"api|consumer|lag"}'
    return [
        course(6, "Memory", "Resident memory.", {"{{job}}": f"sum by (job) (process_resident_memory_bytes{ours})"}, "bytes"),
        course(6, "CPU", "Cores in use.", {"{{job}}": f"sum by (job) (rate(process_cpu_seconds_total{ours}{RATE}))"}),
        course(6, "Open descriptors", "Files and sockets.", {"{{job}}": f"sum by (job) (process_open_fds{ours})"}),
        course(
            6,
            "Uptime",
            "Since the program started: a saw-tooth is a restart loop.",
            {"{{job}}": f"max by (job) (time() - process_start_time_seconds{ours})"},
            "s",
        ),
    ]
