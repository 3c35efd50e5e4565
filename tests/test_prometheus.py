"""Prometheus: what is scraped, that every rule speaks of metrics that exist, and promtool's opinion where it can be had."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from airquality.metrics import ApiMetrics, ConsumerMetrics, GroupMetrics, expose_process
from airquality.monitoring.listed import LABELS
from airquality.monitoring.registry import components
from tests.promql import grouped, metric_names, unmatched

ROOT = Path(__file__).resolve().parent.parent
RULE_TESTS = sorted((ROOT / "prometheus").glob("*_test.yml"))
RULES = [
    rule
    for file in sorted((ROOT / "prometheus" / "rules").glob("*.yml"))
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
#: promlint's one complaint, and why it is accepted: the user fixed the name.
WAIVED_LINT = {'missing_values_count non-histogram and non-summary metrics should not have "_count" suffix'}


def pages() -> dict[str, str]:
    """Return the metric pages as they are before the first row."""
    api, consumer, group = CollectorRegistry(), CollectorRegistry(), CollectorRegistry()
    GroupMetrics(group).lag.labels("0").set(0)
    ApiMetrics(api).model.labels("air-quality-co", "1").set(1)
    metrics = ConsumerMetrics(consumer)
    metrics.name_parts([kind.name for kind in components()])
    metrics.stations.alarm_labels = LABELS
    expose_process(api)
    expose_process(consumer)
    metrics.lag.labels("0").set(0)
    metrics.stations.open("uci-360")
    metrics.stations.show_prediction("uci-360", 1.5, 1.2, 1.8)
    metrics.stations.show_window("uci-360", "daily", 0.3, 0.3)
    metrics.stations.show_final("uci-360", "daily", 0.3, 24.0, 0.1)
    metrics.stations.show_coverage("uci-360", "daily", {"all": 0.9})
    metrics.stations.show_hourly("uci-360", learning=0, thresholds_age_hours=24)
    metrics.stations.show_row("uci-360", 1_790_000_000_000, 307_668)
    registries = {"api": api, "consumer": consumer, "lag": group}
    return {name: generate_latest(registry).decode() for name, registry in registries.items()}


@functools.cache
def exposed() -> set[str]:
    """Return every series name on either page, and what Prometheus and the recording rules add."""
    return (
        {name for page in pages().values() for name in re.findall(r"^([a-z_]\w*)", page, re.M)} | RECORDED | {"up", "ALERTS"}
    )


@functools.cache
def labelled() -> dict[str, dict[str, set[str]]]:
    """Return by series name the values of each label on the pages, and the labels that Prometheus adds to its own."""
    known: dict[str, dict[str, set[str]]] = {"ALERTS": {"alertname": set(ALERTS), "alertstate": {"pending", "firing"}}}
    samples = (s for page in pages().values() for family in text_string_to_metric_families(page) for s in family.samples)
    for sample in samples:
        for label, value in sample.labels.items():
            known.setdefault(sample.name, {}).setdefault(label, set()).add(value)
    return known


def promtool(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run promtool on the project's files, skipping where there is none, neither installed nor as the stack's image."""
    if shutil.which("promtool"):
        command = ["promtool"]
    else:
        image = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["prometheus"]["image"]
        if (
            not shutil.which("docker")
            or subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode
        ):
            pytest.skip("promtool is neither installed nor to be had as an image")
        mounts = [f"--volume={ROOT}/prometheus:/p/prometheus:ro", f"--volume={ROOT}/prometheus.yml:/p/prometheus.yml:ro"]
        mounts.append(f"--volume={ROOT}/prometheus/rules:/etc/prometheus/rules:ro")
        command = ["docker", "run", "--rm", "-i", *mounts, "--workdir=/p", "--entrypoint=promtool", image]
    return subprocess.run([*command, *arguments], cwd=ROOT, input=stdin, capture_output=True, text=True)


def amtool(configuration: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run amtool on a configuration: that of the stack's image, else what is installed, unless it is too old."""
    (folder / "alertmanager.yml").write_text(configuration)
    image = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["alertmanager"]["image"]
    command = ["amtool"]
    if shutil.which("docker") and not subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode:
        folder.chmod(0o755)
        command = ["docker", "run", "--rm", f"--volume={folder}:/c:ro", "--workdir=/c", "--entrypoint=amtool", image]
    elif not shutil.which("amtool"):
        pytest.skip("amtool is neither installed nor to be had as an image")
    done = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True)
    if "url_file not found" in done.stderr:
        pytest.skip("the amtool that is installed is older than the stack's: it does not know url_file (0.26)")
    return done


def test_api_consumer_and_itself_are_scraped_every_15_seconds() -> None:
    config = yaml.safe_load((ROOT / "prometheus.yml").read_text())
    assert config["global"]["scrape_interval"] == "15s"
    assert not [job for job in config["scrape_configs"] if "scrape_interval" in job]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert set(jobs) == {"prometheus", "api", "consumer", "lag"}
    assert jobs["lag"]["static_configs"] == [{"targets": ["lag-exporter:8002"]}]
    assert jobs["api"]["dns_sd_configs"][0]["names"] == ["api"]
    assert jobs["consumer"]["static_configs"] == [{"targets": ["host.docker.internal:8001"]}]
    assert jobs["consumer"]["dns_sd_configs"][0]["names"] == ["consumer"]


def test_rules_speak_of_metrics_that_exist() -> None:
    for rule in RULES:
        names = metric_names(rule["expr"])
        assert names
        assert names <= exposed()


def test_rules_speak_of_labels_that_their_metrics_have() -> None:
    for rule in RULES:
        name, labels = rule.get("alert", rule.get("record")), {label for each in labelled().values() for label in each}
        assert [*unmatched(rule["expr"], labelled()), *grouped(rule["expr"], labelled())] == [], name
        said = set(re.findall(r"\$labels\.(\w+)", str(rule.get("annotations"))))
        assert said <= labels | {"job", "instance"}, name


def test_labels_that_are_not_there_are_found_in_expressions() -> None:
    known = {"a_total": {"reason": {"late"}}}
    assert [*unmatched('sum(a_total{reason="late"}) / a_total{reason=~"l.*", job="api"}', known)] == []
    wrong = 'a_total{raeson="late"} + a_total{reason="later"} + a_total{reason=~"x.*"}'
    assert len([*unmatched(wrong, known)]) == 3
    assert [*grouped("sum by (reason, kind) (a_total)", known)] == ["kind"]


def test_metric_names_are_found_in_expressions() -> None:
    expression = 'sum by (le, job) (rate(a_bucket{x="y z"}[1m])) / on (job) max(b:c > 0) and time() - d offset 5m'
    assert metric_names(expression) == {"a_bucket", "b:c", "d"}


def test_alerts_say_how_bad_what_and_what_now() -> None:
    for name in ALERTS:
        alert = ALERTS[name]
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert {"summary", "description", "runbook_url", "dashboard_url"} <= set(alert["annotations"])
        by_station = "station" in alert["expr"]
        assert by_station == ("{{ $labels.station | urlquery }}" in alert["annotations"]["dashboard_url"])
        assert f"### {name}\n" in (ROOT / "docs" / "operations.md").read_text()


def test_rules_are_tested_alerts_to_fire_and_not_to_fire() -> None:
    tests = [test for path in RULE_TESTS for test in yaml.safe_load(path.read_text())["tests"]]
    cases = [case for test in tests for case in test.get("alert_rule_test", [])]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(ALERTS)
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(ALERTS)
    asked = " ".join(case["expr"] for test in tests for case in test.get("promql_expr_test", []))
    assert [name for name in sorted(RECORDED) if name not in asked] == []


def test_promtool_accepts_the_rules() -> None:
    done = promtool("check", "rules", "prometheus/rules/alerts.yml", "prometheus/rules/recording.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_promtool_runs_the_rules_own_tests() -> None:
    done = promtool("test", "rules", *(f"prometheus/{path.name}" for path in RULE_TESTS))
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration() -> None:
    done = promtool("check", "config", "--syntax-only", "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", ["api", "consumer", "lag"])
def test_promtool_lints_the_metrics_with_one_waiver(page: str) -> None:
    done = promtool("check", "metrics", stdin=pages()[page])
    assert {line for line in (done.stdout + done.stderr).splitlines() if line.strip()} <= WAIVED_LINT


def test_alertmanager_addresses_come_from_the_environment_and_severities_route_apart() -> None:
    config = yaml.safe_load((ROOT / "prometheus" / "alertmanager.yml").read_text())
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["alertmanager"]
    for receiver in config["receivers"]:
        (webhook,) = receiver["webhook_configs"]
        assert f"> {webhook['url_file']} " in " ".join(service["command"])
    assert set(service["environment"]) == {"ALERT_WEBHOOK_URL", "ALERT_WARNING_WEBHOOK_URL"}
    (route,) = config["route"]["routes"]
    assert (config["route"]["receiver"], route["receiver"], route["matchers"]) == (
        "critical",
        "warning",
        ["severity = warning"],
    )
    inhibited = {name for rule in config["inhibit_rules"] for name in re.findall(r"[A-Z]\w+", str(rule))}
    assert inhibited <= set(ALERTS)


EXAMPLES = re.findall(r"```yaml\n(# alertmanager.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.S)


@pytest.mark.parametrize("example", range(3))
def test_amtool_accepts_the_configurations_in_the_documentation(example: int, tmp_path: Path) -> None:
    done = amtool(EXAMPLES[example], tmp_path, "check-config", "alertmanager.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("configuration", [(ROOT / "prometheus" / "alertmanager.yml").read_text(), *EXAMPLES])
@pytest.mark.parametrize("severity", ["critical", "warning"])
def test_amtool_routes_severities_apart(severity: str, configuration: str, tmp_path: Path) -> None:
    done = amtool(
        configuration, tmp_path, "config", "routes", "test", "--config.file=alertmanager.yml", f"severity={severity}"
    )
    assert (done.returncode, done.stdout.strip()) == (0, severity), done.stderr
