"""Grafana as code: the committed dashboard, its provisioning, and Grafana's own published schema of both."""

from __future__ import annotations

import doctest
import enum
import json
import re
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.cog.runtime import Runtime
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import build_dashboard
from grafana.looks import GREY
from grafana.panels import REPORTS_URL, RUNBOOK_URL
from tests.promql import grouped, metric_names, unmatched
from tests.test_prometheus import ALERTS, exposed, labelled, promtool

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
DASHBOARD = json.loads((ROOT / "grafana" / "dashboards" / "air_quality.json").read_text())
RUNBOOK = json.loads((ROOT / "grafana" / "dashboards" / "runbook.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
BY_TITLE = {panel["title"]: panel for panel in PANELS}
EXPRESSIONS = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
ANSWERS = ["API", "Consumer", "Last prediction", "Alerts firing", "Can the data and the model be trusted?", "Model"]
ASKED_FOR = ["Prediction latency", "Throughput", "Latest prediction", "Missing values", "Error rate"]
#: What Grafana offers in the corner; it switches refreshing off where the dashboard asks for any other.
REFRESH_INTERVALS = {"5s", "10s", "30s", "1m", "5m", "15m", "30m", "1h", "2h", "1d"}


def titled(panel: dict[str, Any]) -> str:
    return str(panel["title"])


def colors(panel: dict[str, Any]) -> list[str]:
    return [step["color"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]


def test_the_committed_dashboards_are_what_the_script_writes() -> None:
    for path, made in (
        (build_dashboard.DASHBOARD, build_dashboard.dashboard()),
        (build_dashboard.RUNBOOK, build_dashboard.runbook()),
    ):
        assert path.read_text() == build_dashboard.as_text(made), "run: python -m grafana.build_dashboard"


def test_dashboard_refreshes_at_an_interval_grafana_knows() -> None:
    assert DASHBOARD["refresh"] in REFRESH_INTERVALS


def test_dashboard_answers_first_then_the_alarms_then_the_five_asked_for() -> None:
    in_order = [panel["title"] for panel in sorted(PANELS, key=lambda p: (p["gridPos"]["y"], p["gridPos"]["x"]))]
    assert in_order[: len(ANSWERS)] == ANSWERS
    assert {BY_TITLE[title]["gridPos"]["y"] for title in ANSWERS} == {0}
    assert in_order[len(ANSWERS)] == "Alarms and alerts over time"
    assert BY_TITLE["Alarms and alerts over time"]["type"] == "state-timeline"
    assert in_order[len(ANSWERS) + 1 :][:5] == ASKED_FOR


def test_panels_asked_for_draw_what_was_asked() -> None:
    latency, throughput, prediction, missing, errors = (BY_TITLE[title] for title in ASKED_FOR)
    assert [target["legendFormat"] for target in latency["targets"]] == ["P50", "P95", "P99"]
    assert [target["legendFormat"] for target in throughput["targets"]] == ["predictions/s", "Kafka messages/s"]
    assert colors(prediction)[1:] == ["green", "yellow", "red"]
    asked = [metric_names(target["expr"]) for target in missing["targets"]]
    assert asked == [{"air_quality_missing_features_total"}, {"missing_values_count"}]
    assert metric_names(errors["targets"][0]["expr"]) == {"inference_errors_total"}


def test_latest_prediction_before_the_first_is_absent_not_zero() -> None:
    assert 'sum(predictions_total{model=""}) > 0' in BY_TITLE["Latest prediction"]["targets"][0]["expr"]


def test_panels_without_data_are_grey_never_green() -> None:
    for panel in PANELS:
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert (steps[0]["value"], steps[0]["color"]) == (None, GREY)
        for mapping in panel["fieldConfig"]["defaults"].get("mappings", []):
            if mapping["type"] == "special":
                assert mapping["options"]["result"]["color"] == GREY


def test_panels_of_states_say_what_is_good_and_what_is_not() -> None:
    for panel in (p for p in PANELS if p["type"] in ("stat", "state-timeline")):
        defaults = panel["fieldConfig"]["defaults"]
        words = [mapping for mapping in defaults["mappings"] if mapping["type"] == "value"]
        assert any(mapping["options"] for mapping in words) or len(defaults["thresholds"]["steps"]) > 1
        assert any(
            mapping["options"]["match"] == "null+nan" for mapping in defaults["mappings"] if mapping["type"] == "special"
        )


def test_bars_and_dials_begin_at_zero() -> None:
    for panel in (p for p in PANELS if p["type"] in ("bargauge", "gauge")):
        assert panel["fieldConfig"]["defaults"]["min"] == 0


def test_expressions_have_no_fixed_window_which_loses_bursts_at_a_wider_zoom() -> None:
    assert [title for title, expression in EXPRESSIONS if re.search(r"\[\d+[a-z]", expression)] == []


def test_panels_ask_the_pinned_datasource_for_metrics_that_exist() -> None:
    for panel in PANELS:
        (source,) = yaml.safe_load((ROOT / "grafana" / "datasources.yml").read_text())["datasources"]
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": source["type"], "uid": source["uid"]}
        for target in panel["targets"]:
            assert metric_names(target["expr"])
            assert metric_names(target["expr"]) <= exposed()


def test_panels_ask_for_labels_that_their_metrics_have() -> None:
    for title, expression in EXPRESSIONS:
        assert [*unmatched(expression, labelled()), *grouped(expression, labelled())] == [], title
    for panel in PANELS:
        for target in panel["targets"]:
            known = {label for name in metric_names(target["expr"]) for label in labelled().get(name, ())}
            shown = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", target.get("legendFormat") or ""))
            assert shown <= known | {"job", "instance"}, panel["title"]


#: Read by alerts, drawn in another form: the broker's lag instead of each consumer's, silence since a station's last row.
DRAWN_OTHERWISE = {
    "air_quality_consumer_lag_records",
    "air_quality_station_last_hour_timestamp_seconds",
    "station:air_quality_last_row:max_1d",
    "job:inference_errors:ratio_rate1m",
}


def test_what_an_alert_reads_is_drawn() -> None:
    drawn = set[str]().union(*(metric_names(expression) for _, expression in EXPRESSIONS))
    read = set[str]().union(*(metric_names(alert["expr"]) for alert in ALERTS.values()))
    assert read - drawn - DRAWN_OTHERWISE == set()
    assert not drawn & DRAWN_OTHERWISE


def test_panel_of_what_is_off_counts_each_part_as_prometheus_computes_it() -> None:
    given = {
        'air_quality_monitoring_parts_off{part="windows", instance="a"}': "2x8",
        'air_quality_monitoring_parts_off{part="windows", instance="b"}': "1x8",
        'air_quality_monitoring_parts_off{part="late", instance="a"}': "0x8",
        'air_quality_detectors_off{instance="a"}': "1x8",
        'air_quality_detectors_off{instance="b"}': "0x8",
        'air_quality_model_uncalibrated{instance="a"}': "0x8",
        'air_quality_unwritten_summaries_total{instance="a"}': "3x8",
    }
    shown: dict[str, list[dict[str, Any]]] = {
        "{{part}}, stations": [{"labels": '{part="windows"}', "value": 3}, {"labels": '{part="late"}', "value": 0}],
        "hourly detectors": [{"labels": "{}", "value": 1}],
        "another model's reference": [{"labels": "{}", "value": 0}],
        "unwritten summaries": [{"labels": "{}", "value": 3}],
    }
    targets = {target["legendFormat"]: target["expr"] for target in BY_TITLE["Monitoring that is off"]["targets"]}
    assert set(targets) == set(shown)
    cases = [{"expr": targets[name], "eval_time": "2m", "exp_samples": samples} for name, samples in shown.items()]
    series = [{"series": name, "values": values} for name, values in given.items()]
    tests = [{"interval": "15s", "input_series": series, "promql_expr_test": cases}]
    done = promtool("test", "rules", "/dev/stdin", stdin=yaml.safe_dump({"tests": tests}))
    assert done.returncode == 0, done.stdout + done.stderr


def test_station_and_kind_are_variables_and_used() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert set(variables) == {"station", "kind"}
    for name, variable in variables.items():
        assert variable["includeAll"]
        assert variable["allValue"] == ".*"
        assert any(f'{name}=~"${name}"' in expression for _, expression in EXPRESSIONS)
    assert metric_names(re.sub(r"label_values\((\w+), station\)", r"\1", variables["station"]["query"])) <= exposed()


def test_annotations_mark_model_changes_and_alarms_with_metrics_that_exist() -> None:
    annotations = {annotation["name"]: annotation for annotation in DASHBOARD["annotations"]["list"]}
    assert set(annotations) == {"Model changes", "Alarms"}
    for annotation in annotations.values():
        assert metric_names(annotation["expr"]) <= exposed()
        assert annotation["titleFormat"]


def test_panels_link_to_the_reports_and_to_the_runbook() -> None:
    links = {title: {link["url"] for link in BY_TITLE[title].get("links", [])} for title in BY_TITLE}
    for title in (
        "Can the data and the model be trusted?",
        "Window error beside the baseline",
        "Windows with drift",
        "Reports",
    ):
        assert REPORTS_URL in links[title]
    for title in ("API", "Consumer", "Alerts firing", "Alerts firing now"):
        assert RUNBOOK_URL in links[title]
    assert f"/d/{RUNBOOK['uid']}" == RUNBOOK_URL


def test_alerts_link_to_their_pages_of_the_runbook() -> None:
    for name in ALERTS:
        url = ALERTS[name]["annotations"]["runbook_url"]
        (page,) = (panel for panel in RUNBOOK["panels"] if panel["title"] == name)
        assert url == f"http://localhost:3000{RUNBOOK_URL}?viewPanel=panel-{page['id']}"
        assert len(page["options"]["content"]) > 40


def test_runbook_has_a_page_for_every_alert_and_no_other() -> None:
    assert {panel["title"] for panel in RUNBOOK["panels"]} == set(ALERTS)
    assert doctest.testmod(build_dashboard).failed == 0


# --- the states of the first row, as Prometheus computes them

UP = 'up{job="api", instance="api:8000"}'
CONSUMER_UP = 'up{job="consumer", instance="172.18.0.9:8001"}'
HOST_DOWN = {'up{job="consumer", instance="host.docker.internal:8001"}': "0x8"}
MODEL = {'air_quality_model_info{job="api", name="m", version="1"}': "1x8"}
ANSWERING = {
    CONSUMER_UP: "1x8",
    'air_quality_kafka_answered_timestamp_seconds{job="consumer"}': "0+15x8",
    'air_quality_consumer_paused{job="consumer"}': "0x8",
    'air_quality_consumer_refused{job="consumer"}': "0x8",
}
INCIDENTS: list[tuple[str, str, dict[str, str]]] = [
    ("API", "DOWN", {UP: "0x8"}),
    ("API", "UP", {UP: "1x8", 'air_quality_registry_unreachable{job="api"}': "0x8", **MODEL}),
    ("API", "NO MODEL", {UP: "1x8", 'air_quality_registry_unreachable{job="api"}': "1x8"}),
    ("API", "NO CHAMPION", {UP: "1x8", 'air_quality_registry_unreachable{job="api"}': "1x8", **MODEL}),
    ("Consumer", "DOWN", HOST_DOWN),
    ("Consumer", "DOWN", {**HOST_DOWN, **dict.fromkeys(ANSWERING, "1x3 stale")}),
    ("Consumer", "RUNNING", {**HOST_DOWN, **ANSWERING}),
    ("Consumer", "WAITING", {**ANSWERING, 'air_quality_consumer_paused{job="consumer"}': "1x8"}),
    ("Consumer", "NO KAFKA", {**ANSWERING, 'air_quality_kafka_answered_timestamp_seconds{job="consumer"}': "0+15x5 75x3"}),
    ("Consumer", "REFUSED", {**ANSWERING, 'air_quality_consumer_refused{job="consumer"}': "1x8"}),
]


def test_first_row_in_each_incident_shows_its_state(tmp_path: Path) -> None:
    tests = []
    for title, word, series in INCIDENTS:
        states = BY_TITLE[title]["fieldConfig"]["defaults"]["mappings"][0]["options"]
        value = next(int(number) for number, shown in states.items() if shown["text"] == word)
        case = {
            "expr": f"max({BY_TITLE[title]['targets'][0]['expr']})",
            "eval_time": "2m",
            "exp_samples": [{"labels": "{}", "value": value}],
        }
        given = [{"series": name, "values": values} for name, values in series.items()]
        tests.append({"name": f"{title} {word}", "interval": "15s", "input_series": given, "promql_expr_test": [case]})
    done = promtool("test", "rules", "/dev/stdin", stdin=yaml.safe_dump({"tests": tests}))
    assert done.returncode == 0, done.stdout + done.stderr


def test_first_row_is_red_in_every_state_that_stops_predictions() -> None:
    for title, words in (("API", {"DOWN", "NO MODEL"}), ("Consumer", {"DOWN", "NO KAFKA", "REFUSED"})):
        states = BY_TITLE[title]["fieldConfig"]["defaults"]["mappings"][0]["options"].values()
        assert {state["text"] for state in states if state["color"] == "red"} == words
        assert [state["text"] for state in states if state["color"] == "green"] in (["UP"], ["RUNNING"])


@pytest.mark.parametrize("dashboard", [DASHBOARD, RUNBOOK], ids=titled)
def test_panels_have_their_own_ids_and_do_not_overlap(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_provisioning_is_mounted_where_grafana_looks_and_points_at_what_is_mounted() -> None:
    mounts = dict(mount.split(":")[:2] for mount in COMPOSE["volumes"])
    assert mounts["./grafana/datasources.yml"].startswith("/etc/grafana/provisioning/datasources/")
    assert mounts["./grafana/dashboards.yml"].startswith("/etc/grafana/provisioning/dashboards/")
    (provider,) = yaml.safe_load((ROOT / "grafana" / "dashboards.yml").read_text())["providers"]
    assert provider["options"]["path"] == mounts["./grafana/dashboards"]
    home = COMPOSE["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{mounts['./grafana/dashboards']}/{build_dashboard.DASHBOARD.name}"
    (source,) = yaml.safe_load((ROOT / "grafana" / "datasources.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"


# --- Grafana's own schema, as its foundation SDK publishes it


def faults(given: Any, understood: Any, where: str = "dashboard") -> list[str]:
    """Return what of ``given`` did not survive Grafana's models: unknown keys and changed values."""
    if isinstance(given, dict):
        unknown = [f"{where}.{key}: not in the schema" for key in given if key not in understood]
        return unknown + [
            f for key in given if key in understood for f in faults(given[key], understood[key], f"{where}.{key}")
        ]
    if isinstance(given, list):
        return [
            fault for i, pair in enumerate(zip(given, understood, strict=True)) for fault in faults(*pair, f"{where}[{i}]")
        ]
    return [] if given == understood else [f"{where}: {given!r} became {understood!r}"]


def mistyped(model: Any, where: str = "dashboard") -> list[str]:
    """Return the fields of an SDK object, at any depth, whose value the schema's type does not allow."""
    if isinstance(model, list):
        return [fault for i, item in enumerate(model) for fault in mistyped(item, f"{where}[{i}]")]
    if not hasattr(model, "to_json"):
        return []
    found = []
    for name, hint in typing.get_type_hints(type(model)).items():
        value = getattr(model, name, None)
        if not allowed(value, hint):
            found.append(f"{where}.{name}: {value!r} is no {hint}")
        found += mistyped(value, f"{where}.{name}")
    return found


def allowed(value: Any, hint: Any) -> bool:
    options = typing.get_args(hint) if typing.get_origin(hint) is typing.Union else (hint,)
    plain = [option for option in options if isinstance(option, type)]
    if value is None or len(plain) < len(options):
        return True
    return any(
        value in [member.value for member in option]
        if issubclass(option, enum.Enum)
        else isinstance(value, (int, float) if option is float else option)
        for option in plain
    )


def understood(dashboard: dict[str, Any]) -> Dashboard:
    register_default_plugins()
    return Dashboard.from_json(dashboard)


#: Read by Grafana's Prometheus plugin, in no published schema.
UNPUBLISHED = re.compile(r"dashboard\.annotations\.list\[\d\]\.titleFormat: not in the schema")


@pytest.mark.parametrize("dashboard", [DASHBOARD, RUNBOOK], ids=titled)
def test_the_dashboard_conforms_to_grafanas_schema(dashboard: dict[str, Any]) -> None:
    model = understood(dashboard)
    lost = faults(dashboard, json.loads(json.dumps(model, cls=JSONEncoder)))
    assert [fault for fault in lost if not UNPUBLISHED.fullmatch(fault)] == []
    assert mistyped(model) == []
    assert {panel["type"] for panel in dashboard["panels"]} - {"row"} <= set(Runtime().panelcfg_variants)


def test_the_schema_check_sees_a_misspelt_key_a_wrong_value_and_a_wrong_type() -> None:
    broken = json.loads(json.dumps(DASHBOARD | {"annotations": {"list": []}}))
    panels = {panel["title"]: panel for panel in broken["panels"]}
    broken["panels"][0]["gridpos"] = broken["panels"][0].pop("gridPos")
    panels["Throughput"]["options"]["legend"]["displayMode"] = "lst"
    panels["Latest prediction"]["fieldConfig"]["defaults"]["max"] = "fifteen"
    model = understood(broken)
    lost = faults(broken, json.loads(json.dumps(model, cls=JSONEncoder)))
    assert lost == ["dashboard.panels[0].gridpos: not in the schema"]
    wrong = " ".join(mistyped(model))
    assert "'lst'" in wrong
    assert "'fifteen'" in wrong
