"""What Prometheus, and Grafana where it is the real one, say about the running stack."""

from __future__ import annotations

import base64
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from lab.containers.stack import fetch
from lab.waiting import Failed

PROMETHEUS = "http://localhost:9090"
GRAFANA = "http://localhost:3000"


def query(expression: str) -> list[dict[str, Any]]:
    """Return the samples of an instant query; NaN is no data."""
    body = fetch(f"{PROMETHEUS}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
    if body is None:
        raise Failed(f"Prometheus refuses {expression!r}")
    return [sample for sample in json.loads(body)["data"]["result"] if sample["value"][1] != "NaN"]


def targets() -> dict[str, str]:
    """Return the health of each scrape target, by job and host."""
    found = json.loads(fetch(f"{PROMETHEUS}/api/v1/targets") or "{}")["data"]["activeTargets"]
    return {f"{t['labels']['job']} {t['labels']['instance'].split(':')[0]}": t["health"] for t in found}


def firing() -> set[str]:
    """Return the names of the alerts that fire."""
    found = json.loads(fetch(f"{PROMETHEUS}/api/v1/alerts") or "{}")["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}


def fired(seconds: float) -> set[str]:
    """Return the names of the alerts that fired at any time within the last seconds."""
    found = query(f'count by (alertname) (count_over_time(ALERTS{{alertstate="firing"}}[{seconds:.0f}s]))')
    return {sample["metric"]["alertname"] for sample in found}


#: What Grafana puts in the place of its variables while everything is chosen and the last minutes are shown.
VARIABLES = {"$__rate_interval": "1m", "$station": ".*", "$kind": ".*"}


def panels(tree: Path) -> dict[str, dict[str, Any]]:
    """Return the panels of the dashboard that ask Prometheus, by title, with what Grafana would ask in their place."""
    text = (tree / "grafana" / "dashboards" / "air_quality.json").read_text()
    for name, chosen in VARIABLES.items():
        text = text.replace(name, chosen)
    return {panel["title"]: panel for panel in json.loads(text)["panels"] if panel.get("targets")}


def panel_expressions(tree: Path) -> dict[str, str]:
    """Return every expression of every panel and the title of its panel, but for the lists of alerts: none may fire."""
    found = {target["expr"]: title for title, panel in panels(tree).items() for target in panel["targets"]}
    return {expression: title for expression, title in found.items() if not re.search(r"(?<!count\()ALERTS", expression)}


def shown(tree: Path, title: str) -> str:
    """Return the words that a panel of states shows now."""
    panel = panels(tree)[title]
    samples = query(panel["targets"][0]["expr"])
    words = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    return str(words[samples[0]["value"][1]]["text"]) if samples else "no data"


def grafana_dashboard(uid: str) -> dict[str, Any] | None:
    """Return the dashboard as the real Grafana provisioned it; None where a stand-in answers in Grafana's place."""
    request = urllib.request.Request(f"{GRAFANA}/api/dashboards/uid/{uid}")
    request.add_header("Authorization", "Basic " + base64.b64encode(b"admin:admin").decode())
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.load(answer)["dashboard"])
    except urllib.error.HTTPError as error:
        if error.code == 501:
            return None
        raise Failed(f"Grafana answers {error.code} for dashboard {uid}") from error
