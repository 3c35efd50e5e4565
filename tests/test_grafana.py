"""Grafana as code: the committed dashboard, its provisioning, and Grafana's own published schema of both."""

from __future__ import annotations

import enum
import json
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
from tests.promql import metric_names
from tests.test_prometheus import exposed

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
DASHBOARD = json.loads((ROOT / "grafana" / "dashboards" / "air_quality.json").read_text())
PANELS = DASHBOARD["panels"]


def test_the_committed_dashboard_is_what_the_script_writes() -> None:
    assert build_dashboard.DASHBOARD.read_text() == build_dashboard.as_text(), "run: python grafana/build_dashboard.py"


def test_the_first_five_panels_are_the_users() -> None:
    assert [panel["title"] for panel in PANELS[:5]] == [
        "Prediction latency",
        "Throughput",
        "Latest prediction",
        "Missing values",
        "Error rate",
    ]
    latency, throughput, prediction, missing, errors = PANELS[:5]
    assert [target["legendFormat"] for target in latency["targets"]] == ["P50", "P95", "P99"]
    assert [target["legendFormat"] for target in throughput["targets"]] == ["predictions/s", "Kafka messages/s"]
    colors = [step["color"] for step in prediction["fieldConfig"]["defaults"]["thresholds"]["steps"]]
    assert colors == ["green", "yellow", "red"]
    assert metric_names(missing["targets"][0]["expr"]) == {"missing_values_count"}
    assert metric_names(errors["targets"][0]["expr"]) == {"inference_errors_total"}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_asks_the_pinned_datasource_for_metrics_that_exist(panel: dict[str, Any]) -> None:
    (source,) = yaml.safe_load((ROOT / "grafana" / "datasources.yml").read_text())["datasources"]
    for asked in (panel, *panel["targets"]):
        assert asked["datasource"] == {"type": source["type"], "uid": source["uid"]}
    for target in panel["targets"]:
        assert metric_names(target["expr"])
        assert metric_names(target["expr"]) <= exposed()


def test_panels_have_their_own_ids_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in PANELS)
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


def test_the_dashboard_conforms_to_grafanas_schema() -> None:
    model = understood(DASHBOARD)
    assert faults(DASHBOARD, json.loads(json.dumps(model, cls=JSONEncoder))) == []
    assert mistyped(model) == []
    assert {panel["type"] for panel in PANELS} <= set(Runtime().panelcfg_variants)


def test_the_schema_check_sees_a_misspelt_key_a_wrong_value_and_a_wrong_type() -> None:
    broken = json.loads(json.dumps(DASHBOARD))
    broken["panels"][0]["gridpos"] = broken["panels"][0].pop("gridPos")
    broken["panels"][1]["options"]["legend"]["displayMode"] = "lst"
    broken["panels"][2]["fieldConfig"]["defaults"]["max"] = "fifteen"
    model = understood(broken)
    lost = faults(broken, json.loads(json.dumps(model, cls=JSONEncoder)))
    assert lost == ["dashboard.panels[0].gridpos: not in the schema"]
    wrong = " ".join(mistyped(model))
    assert "'lst'" in wrong
    assert "'fifteen'" in wrong
