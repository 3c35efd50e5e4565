"""The compose files: what both compose versions load, and what every service promises."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess

import pytest
import yaml

from airquality.ground.settings import Settings
from lab.kafka_installation import KAFKA_VERSION
from lab.waiting import PATIENCE_SECONDS
from tests.compose_files import (
    BASE,
    BROKERS,
    DOCKERFILE,
    FILE_SETS,
    LONG_RUNNING,
    ONE_SHOT,
    OWN,
    ROOT,
    SERVICES,
    STAGES,
    THREE,
    ZOOKEEPER,
    ports,
)

SCALED = {"api", "consumer"}


@pytest.mark.slow
@pytest.mark.parametrize("files", FILE_SETS, ids=["kraft", "zookeeper", "three-brokers"])
@pytest.mark.parametrize("command", [["docker-compose"], ["docker", "compose"]], ids=["v1", "v2"])
def test_compose_loads_the_files_without_a_word(command: list[str], files: list[str]) -> None:
    if not shutil.which(command[0]) or subprocess.run([*command, "version"], capture_output=True).returncode:
        pytest.skip(f"{' '.join(command)} is not installed")
    chosen = [part for file in files for part in ("-f", file)]
    done = subprocess.run([*command, *chosen, "config", "-q"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nothing_that_one_compose_version_refuses_or_warns_about() -> None:
    for file in (BASE, ZOOKEEPER, THREE):
        assert set(file) <= {"services", "volumes"} | {key for key in file if key.startswith("x-")}
        for service in file["services"].values():
            assert not {"develop", "container_name", "configs", "deploy"} & set(service)
            assert "start_interval" not in service.get("healthcheck", {})
            assert all(set(needed) == {"condition"} for needed in service.get("depends_on", {}).values())
    assert not re.search(r"\$\{[^}]*\$\{", (ROOT / "docker-compose.yml").read_text()), "nested defaults are silently wrong"


def test_services_and_ports_are_the_ones_promised() -> None:
    published = {name: int(port.split(":")[1]) for name, service in SERVICES.items() for port in ports(service)}
    assert published == {
        "kafka": 9092,
        "kafka-2": 9094,
        "kafka-3": 9095,
        "kafka-ui": 8080,
        "mlflow": 5000,
        "api-port": 8000,
        "consumer-port": 8001,
        "prometheus": 9090,
        "grafana": 3000,
        "alertmanager": 9093,
        "zookeeper": 2181,
    }
    assert set(SERVICES) - set(published) - SCALED == ONE_SHOT | {"lag-exporter"}


@pytest.mark.parametrize("name", sorted(SCALED))
def test_what_is_scaled_publishes_no_port_and_is_found_by_its_name(name: str) -> None:
    assert not ports(SERVICES[name])
    front = SERVICES[f"{name}-port"]
    port = ports(front)[0].split(":")[-1]
    assert front["command"] == ["python", "forward.py", port, f"{name}:{port}"]
    assert front.get("profiles") == SERVICES[name].get("profiles")
    jobs = {job["job_name"]: job for job in yaml.safe_load((ROOT / "prometheus.yml").read_text())["scrape_configs"]}
    assert jobs[name]["dns_sd_configs"][0] == {"names": [name], "type": "A", "port": int(port), "refresh_interval": "5s"}


def test_every_port_is_bound_to_this_machine_only() -> None:
    assert [port for service in SERVICES.values() for port in ports(service) if not port.startswith("127.0.0.1:")] == []


def test_long_running_services_are_checked_restarted_and_bounded() -> None:
    for name in LONG_RUNNING:
        service = SERVICES[name]
        assert {"test", "interval", "timeout", "retries", "start_period"} <= set(service["healthcheck"])
        assert service["restart"] == "unless-stopped"
        assert service["mem_limit"]
        assert service["pids_limit"]
        assert service["stop_grace_period"] == ("60s" if name == "consumer" else "30s"), "10 s are short for a busy machine"


def test_health_checks_start_no_interpreter_and_no_jvm() -> None:
    for name in LONG_RUNNING:
        command = " ".join(SERVICES[name]["healthcheck"]["test"])
        assert not re.search(r"python|java|kafka-|\.sh\b", command)
        assert command.startswith(("CMD bash -c", "CMD-SHELL wget"))


def test_jobs_end_and_stay_ended() -> None:
    for name in sorted(ONE_SHOT):
        assert SERVICES[name]["restart"] in ("no", "on-failure:5")
        assert SERVICES[name]["mem_limit"]


def test_no_service_can_gain_privileges_or_fill_the_disk_with_logs() -> None:
    for name in sorted(SERVICES):
        service = SERVICES[name]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["cap_drop"] == ["ALL"]
        assert service["logging"]["options"]["max-size"]
        assert service.get("cap_add", []) == (["CHOWN", "SETUID", "SETGID", "KILL"] if name == "consumer" else [])


def test_root_file_systems_are_read_only_where_the_software_allows() -> None:
    writable = {name for name, service in SERVICES.items() if not service.get("read_only")}
    assert writable == {*BROKERS, "kafka-ui", "zookeeper"}, (
        "Kafka's start script writes its configuration; Kafka UI is untried"
    )


def test_every_dependency_is_waited_for_until_it_is_of_use() -> None:
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if needed in ONE_SHOT else "service_healthy"
            assert how["condition"] == expected


@pytest.mark.parametrize("name", [name for name in OWN if not name.endswith("-init")])
def test_service_that_names_another_is_stopped_before_it(name: str) -> None:
    """Compose stops in the reverse order of direct dependencies; one that is only implied by a job's does not count."""
    service = SERVICES[name]
    values = [*service.get("environment", {}).values(), *service.get("command", [])]
    addresses = " ".join(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value)) for value in values)
    named = {other for other in LONG_RUNNING if re.search(rf"(^|[/ ]){other}:\d+", addresses)}
    assert named
    assert named <= set(SERVICES[name]["depends_on"])


def test_streaming_containers_read_the_data_that_data_init_made() -> None:
    for name in ("consumer", "producer"):
        assert SERVICES[name]["depends_on"]["data-init"] == {"condition": "service_completed_successfully"}
        assert "stream-data:/app/dataset:ro" in SERVICES[name]["volumes"]
    assert {"./dataset:/host/dataset:ro", "stream-data:/data"} <= set(SERVICES["data-init"]["volumes"])
    assert SERVICES["data-init"]["profiles"] == SERVICES["consumer"]["profiles"]


def test_alerting_without_a_webhook_fails_in_a_job_that_up_waits_for() -> None:
    job = SERVICES["alert-webhook-init"]
    assert SERVICES["alertmanager"]["depends_on"]["alert-webhook-init"] == {"condition": "service_completed_successfully"}
    assert job["profiles"] == SERVICES["alertmanager"]["profiles"]
    command = [*job["entrypoint"], job["command"][0].replace("$$", "$")]
    for url, status in (("", 2), ("http://localhost/", 0)):
        assert subprocess.run(command, env={"ALERT_WEBHOOK_URL": url}, capture_output=True).returncode == status


def test_consumer_health_check_asks_for_its_health_not_for_its_life() -> None:
    check = SERVICES["consumer"]["healthcheck"]
    assert "GET /health" in check["test"][-1]
    assert check["retries"] * 5 + 5 <= 30, "an outage shows within half a minute"
    assert check["start_period"] == "300s", "the first success ends it"


def test_images_are_pinned_by_tag() -> None:
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    images += [image for image in re.findall(r"^FROM (\S+)", DOCKERFILE, re.M) if image not in STAGES]
    for image in images:
        assert "@" not in image, "stand-ins and mirrors cannot have a digest"
        assert re.search(r":v?\d+\.\d+[\w.-]*$", image), image


def test_the_containers_run_the_versions_the_tests_run() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    locked = re.search(r"^mlflow==(\S+)", (ROOT / "requirements.lock").read_text(), re.M)
    assert locked
    assert f"ghcr.io/mlflow/mlflow:v{locked[1]} " in DOCKERFILE


def test_own_services_are_given_only_settings_that_exist() -> None:
    known = {field.upper() for field in Settings.model_fields} | {"LOGNAME", "NO_PROXY", "no_proxy"}
    known |= {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
    assert {name for service in OWN for name in SERVICES[service].get("environment", {})} <= known


def test_what_is_on_the_network_is_not_looked_for_behind_a_proxy() -> None:
    for name in sorted(set(OWN) - {"api-port", "consumer-port"}):
        environment = SERVICES[name]["environment"]
        values = [str(value) for key, value in environment.items() if key.lower() != "no_proxy"]
        addresses = " ".join(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for value in values)
        named = {other for other in SERVICES if re.search(rf"(^|[/ ]){other}:\d+", addresses)}
        assert environment["NO_PROXY"] == environment["no_proxy"]
        assert named <= set(environment["NO_PROXY"].split(","))


@pytest.mark.parametrize("status", [200, 503])
def test_health_check_of_http_prints_the_answer_and_judges_by_the_status(status: int) -> None:
    answer = f"HTTP/1.1 {status} X\r\nContent-Length: 14\r\n\r\n" + '{"faults": []}'
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = SERVICES["consumer"]["healthcheck"]["test"][-1].replace("$$", "$")
        script = script.replace("/8001", f"/{server.getsockname()[1]}")
        with subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, text=True) as check:
            connection = server.accept()[0]
            with connection:
                asked = connection.recv(1000)
                while not asked.endswith(b"\r\n\r\n"):  # bash writes line by line
                    asked += connection.recv(1000)
                assert asked == b"GET /health HTTP/1.0\r\n\r\n"
                connection.sendall(answer.encode())
            said, _ = check.communicate(timeout=PATIENCE_SECONDS)
    assert (check.returncode == 0, said) == (status == 200, '{"faults": []}\n')


def test_mlflow_answers_to_its_compose_name_and_to_the_browser() -> None:
    allowed = next(part for part in SERVICES["mlflow"]["command"] if part.startswith("--allowed-hosts="))
    assert {"mlflow:5000", "localhost:5000", "127.0.0.1:5000"} <= set(allowed.split("=")[1].split(","))
    assert "*" not in allowed


def test_prometheus_reaches_a_consumer_on_the_host() -> None:
    assert SERVICES["prometheus"]["extra_hosts"] == ["host.docker.internal:host-gateway"]


def test_data_live_in_volumes_and_nothing_else_is_written_on_the_host_but_reports() -> None:
    mounts = [str(mount) for service in SERVICES.values() for mount in service.get("volumes", [])]
    assert [mount for mount in mounts if mount.startswith(".") and not mount.endswith(":ro")] == ["./reports:/app/reports"]
    named = {mount.split(":")[0] for mount in mounts if not mount.startswith(".")} | {"kafka-zookeeper-data", "kafka-1-of-3"}
    assert named == set(BASE["volumes"]) | set(ZOOKEEPER["volumes"]) | set(THREE["volumes"])


def test_env_example_lists_every_variable_with_its_default_and_nothing_else() -> None:
    names = {name for files in FILE_SETS for name in files}
    text = "".join((ROOT / name).read_text() for name in sorted(names))
    used = dict(re.findall(r"(?<!\$)\$\{(\w+):-([^}]*)\}", text))
    assert len(re.findall(r"(?<!\$)\$\{?\w", text)) == len(re.findall(r"(?<!\$)\$\{\w+:-", text)), "every one has a default"
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert dict(line.split("=", 1) for line in lines if line and not line.startswith("#")) == used
